"""The demo: drawn digits with wrong labels."""

import numpy as np
import pytest
from PIL import Image

from assay.errors import OtherRunError, UsageError
from assay.pipeline.demo import DIGITS, N_NEW, draw_digits, run_demo
from assay.pipeline.options import RunOptions


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The files of a demo and the true labels."""
    out = tmp_path_factory.mktemp("digits")
    return out, *draw_digits(out, 0)


def test_the_digits_are_files_and_most_labels_are_wrong(drawn):
    """1,297 images with a label each, three of five wrong, a fifth trusted and right; 500 new ones."""
    out, truth, new_truth = drawn
    known = DIGITS - N_NEW
    assert (len(truth), len(new_truth)) == (known, N_NEW) == (1297, 500)
    assert len(list((out / "images").iterdir())) == known
    assert len(list((out / "new").iterdir())) == N_NEW
    with Image.open(out / "images" / "0000.png") as image:
        assert image.size == (32, 32)
    noisy = [line.split(",")[1] for line in (out / "noisy.csv").read_text().splitlines()[1:]]
    wrong = np.mean([label != str(true) for label, true in zip(noisy, truth, strict=True)])
    assert wrong == pytest.approx(0.6, abs=0.04)
    trusted = [line.split(",") for line in (out / "trusted.csv").read_text().splitlines()[1:]]
    assert len(trusted) == 259
    assert all(label == str(truth[int(name.removesuffix(".png"))]) for name, label in trusted)


def test_one_seed_draws_one_demo(drawn, tmp_path):
    """The same seed gives the same files, another one others."""
    out, truth, _ = drawn
    again, _ = draw_digits(tmp_path / "again", 0)
    other, _ = draw_digits(tmp_path / "other", 1)
    assert (again == truth).all()
    assert (other != truth).any()
    for name in ("noisy.csv", "trusted.csv", "images/0007.png"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()


def test_a_folder_that_is_not_this_demo_is_refused(tmp_path):
    """Nobody's files are written over, and the images of a demo are not exchanged below its results."""
    options = RunOptions(backbone="tiny", size=32, seed=1)
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"expected a folder for the demo, got a file"):
        run_demo(tmp_path / "file", options)
    with pytest.raises(OtherRunError, match=r"expected an empty folder, found other files; name another"):
        run_demo(tmp_path, options)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    message = r"holds the demo .*, not .*'seed': 1, .*; name another with --out"
    seed, network = '{"digits": 1797, "seed": 0}', '{"digits": 1797, "seed": 1, "network": "tiny at 16 px"}'
    for text in (seed, network, "{"):
        (tmp_path / "demo.json").write_text(text)
        with pytest.raises(OtherRunError, match=message):
            run_demo(tmp_path, options)
