"""Images to predict: good ones, one that shows nothing, and files that are none."""

from pathlib import Path

import numpy as np
from PIL import Image
from small_runs import draw_image


def draw_new_images(folder: Path) -> Path:
    """Six good images in an order of their own, then one of one colour, and four that are none."""
    folder.mkdir()
    generator = np.random.default_rng(2)
    for row, label in enumerate((2, 0, 1, 1, 0, 2)):
        Image.fromarray(draw_image(label, generator)).save(folder / f"{row + 5}.png")
    Image.new("RGB", (32, 32), (77, 77, 77)).save(folder / "100.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "page.jpg").write_text("<html>")
    whole = (folder / "5.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return folder
