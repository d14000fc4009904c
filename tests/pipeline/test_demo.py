"""The demo: drawn digits, spoiled labels, the whole job."""

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


@pytest.mark.slow
def test_the_demo_shows_what_it_is_for(tmp_path):
    """The baseline is poor, assay is good on new images, and most wrong labels are mended."""
    options = RunOptions(backbone="tiny", cache=tmp_path / "cache")
    found = run_demo(tmp_path / "demo", options)
    new = {name: interval.estimate for name, interval in found.new_images.items()}
    assert new["histogram"] < 0.5
    assert new["assay"] > max(0.8, new["noisy-only"])
    assert found.labels["noisy"].estimate < 0.45
    assert found.labels["corrected"].estimate > 0.8


def test_nobodys_images_are_written_over(tmp_path):
    """A folder with other files is refused untouched."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0000.png").write_bytes(b"mine")
    with pytest.raises(OtherRunError, match=r"expected an empty folder, found other files; name another"):
        run_demo(tmp_path, RunOptions(backbone="tiny"))
    assert [file.name for file in tmp_path.iterdir()] == ["images"]
    assert (tmp_path / "images" / "0000.png").read_bytes() == b"mine"


def test_a_demo_with_another_seed_is_refused(tmp_path):
    """The images of a demo are not exchanged below its results."""
    (tmp_path / "demo.json").write_text('{"digits": 1797, "seed": 0}')
    message = r"holds the demo \{'digits': 1797, 'seed': 0\}, not .*'seed': 1, .*; name another with --out"
    with pytest.raises(OtherRunError, match=message):
        run_demo(tmp_path, RunOptions(backbone="tiny", seed=1))


def test_another_network_is_another_demo(tmp_path):
    """In a folder of its own; a file, or what nobody can read, is no demo."""
    options = RunOptions(backbone="tiny", size=32)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"expected a folder for the demo, got a file"):
        run_demo(tmp_path / "file", options)
    for text in ('{"digits": 1797, "seed": 0, "network": "tiny at 16 px"}', "{"):
        (tmp_path / "demo.json").write_text(text)
        with pytest.raises(OtherRunError, match=r"holds the demo .* name another with --out"):
            run_demo(tmp_path, options)
