"""assay export: a run's model as one file."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

from small_runs import CLASSES

from assay.export import gate
from assay.predict.model import write_manifest


def test_a_run_becomes_one_file_that_predicts(assay, finished, small_data):
    """The table compares it with the model; assay predict takes it in the model's place."""
    noisy = assay("export", finished, "-o", "small.onnx")
    assert noisy.code == 0
    lines = noisy.out.splitlines()
    assert [line.split()[0] for line in lines] == ["MB", "float32", "float16", "int8", "n"]
    assert lines[-1].startswith("n = 96; int8 by ")
    assert "trained on these images" in noisy.err
    for place, file in ((finished, "run.csv"), ("small.onnx", "small.csv")):
        assert assay("predict", place, small_data.images, "-o", file, "-q").code == 0
    run, small = (Path(file).read_text(encoding="utf-8").splitlines() for file in ("run.csv", "small.csv"))
    same = [one.split(",")[:2] == other.split(",")[:2] for one, other in zip(run, small, strict=True)]
    assert sum(same) / len(same) > 0.97


def test_a_changed_byte_is_noticed(assay, finished, small_data):
    """In the graph, in what is said of it, and in its hash: the file has no manifest beside it."""
    assert assay("export", finished, "-o", "small.onnx", "-q").code == 0
    whole = Path("small.onnx").read_bytes()
    for what in (b"Softmax", CLASSES[0].encode(), b"figures", b"sha256\x12"):
        data = bytearray(whole)
        data[data.rindex(what) + len(what) - 1] ^= 1
        Path("small.onnx").write_bytes(data)
        noisy = assay("predict", "small.onnx", small_data.images, "-q")
        assert (noisy.code, noisy.out) == (3, ""), what
        assert "expected a file of assay export" in noisy.err


def test_a_class_whose_name_is_not_utf_8_has_a_card(assay, finished, tmp_path):
    """As a folder of another time may be called: its bytes stay as they are."""
    shutil.copytree(finished, tmp_path / "out")
    card = tmp_path / "out" / "model" / "README.md"
    card.write_bytes(card.read_bytes().replace(b"ash", b"L\xf6we"))
    write_manifest(card.parent)
    noisy = assay("export", tmp_path / "out", "--precision", "float32", "-o", "small.onnx", "-q")
    assert noisy.code == 0
    assert b"L\xf6we" in Path("small.onnx.md").read_bytes()


def test_json_says_all(assay, finished, small_data):
    """The figures of both, the images named."""
    noisy = assay(
        "export", finished, small_data.images, "--precision", "float16", "-o", "h.onnx", "--json", "-q"
    )
    facts = json.loads(noisy.out)
    assert noisy.err == ""
    assert [found["precision"] for found in facts["figures"]] == ["float32", "float16"]
    assert (facts["file"], facts["trained_on"], facts["attempts"]) == ("h.onnx", True, [])
    assert facts["card"] == "h.onnx.md"
    assert facts["report"]["accuracy"] == facts["figures"][1]["accuracy"][0]


def test_the_file_has_a_card(assay, finished):
    """What became of the model on the way, each class by the file, then the card of the run."""
    assert assay("export", finished, "-o", "small.onnx", "-q").code == 0
    card = Path("small.onnx.md").read_text(encoding="utf-8")
    assert card.startswith("# small.onnx\n\nThe model below in int8, by ")
    rows = [line.split("|")[1].strip() for line in card.splitlines() if line.startswith("| ")]
    assert rows[:4] == ["", "float32", "float16", "int8"]
    report = card.partition("Each class by small.onnx, on the same images:\n\n```\n")[2]
    assert report.split()[:4] == ["precision", "recall", "f1-score", "support"]
    assert "trained on: compare the rows" in card
    assert card.endswith((finished / "model" / "README.md").read_text(encoding="utf-8"))


def test_what_cannot_be_written_is_refused_before(assay, finished, tmp_path):
    """A folder, or a folder that is not there."""
    noisy = assay("export", finished, "-o", tmp_path)
    assert (noisy.code, "name a file in it" in noisy.err) == (2, True)
    noisy = assay("export", finished, "-o", tmp_path / "no" / "a.onnx")
    assert (noisy.code, "make its folder" in noisy.err) == (2, True)
    noisy = assay("export", finished, "-o", finished / "model" / "model.onnx")
    assert (noisy.code, "is a part of what is in" in noisy.err) == (2, True)


def test_the_gate_stops_it(assay, finished, tmp_path, monkeypatch):
    """Exit 5, and no file."""
    monkeypatch.setattr(gate, "MAX_LOSS", -1.0)
    noisy = assay("export", finished, "-o", tmp_path / "a.onnx", "-q")
    assert noisy.code == 5
    assert "nothing was written" in noisy.err
    assert not [*tmp_path.glob("a.onnx*")]
