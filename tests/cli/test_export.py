"""assay export: a run's model as one file."""

import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

pytest.importorskip("torch")

from small_runs import CLASSES
from written import rows_of

from assay.cli.app import run_app
from assay.export import precision
from assay.export.web_page import RUNTIME
from assay.predict.model import write_manifest
from assay.predict.predictor import load_model


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    """A file of ``assay export``, and what the command printed; not to be changed."""
    file, out, err = tmp_path_factory.mktemp("exported") / "small.onnx", StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert run_app(["export", str(finished), "-o", str(file)]) == 0
    return file, out.getvalue(), err.getvalue()


def test_a_run_becomes_one_file_that_predicts(assay, exported, finished, small_data):
    """The table compares it with the model; assay predict takes it in the model's place."""
    file, out, err = exported
    assert [line.split()[0] for line in out.splitlines()] == ["MB", "float32", "float16", "int8", "n"]
    assert out.splitlines()[-1].startswith("n = 96; int8 by ")
    assert "was trained on these images" in err
    assert [line.split()[2] for line in out.splitlines()[1:4]] == ["–"] * 3  # no accuracy on these
    for place, rows in ((finished, "run.csv"), (file, "small.csv")):
        assert assay("predict", place, small_data.images, "-o", rows, "-q").code == 0
    both = zip(rows_of("run.csv"), rows_of("small.csv"), strict=True)
    same = [(one["file"], one["label"]) == (other["file"], other["label"]) for one, other in both]
    assert sum(same) / len(same) > 0.97


def test_a_changed_byte_is_noticed(refused, exported, small_data):
    """In the graph, in its metadata, and in its hash: the file has no manifest beside it (fault 46)."""
    whole = exported[0].read_bytes()
    for what in (b"Softmax", CLASSES[0].encode(), b"figures", b"sha256\x12"):
        data = bytearray(whole)
        data[data.rindex(what) + len(what) - 1] ^= 1
        Path("small.onnx").write_bytes(data)
        refused(3, "expected a file of assay export", "predict", "small.onnx", small_data.images, "-q")


def test_the_file_has_a_card(exported, finished):
    """The comparison with the model, each class by the file, then the card of the run."""
    card = exported[0].with_name("small.onnx.md").read_text(encoding="utf-8")
    assert card.startswith("# small.onnx\n")
    rows = [line.split("|")[1].strip() for line in card.splitlines() if line.startswith("| ")]
    assert rows[:4] == ["", "float32", "float16", "int8"]
    assert "| int8 | " in card
    assert all(line.split("|")[3].strip() == "–" for line in card.splitlines() if line.startswith("| int8"))
    assert card.endswith((finished / "model" / "README.md").read_text(encoding="utf-8"))


def test_a_class_whose_name_is_not_utf_8_has_a_card(assay, run):
    """Old folders may be called so; the bytes stay as they are."""
    card = run / "model" / "README.md"
    card.write_bytes(card.read_bytes().replace(b"ash", b"L\xf6we"))
    write_manifest(card.parent)
    assert assay("export", run, "--precision", "float32", "-o", "small.onnx", "-q").code == 0
    assert b"L\xf6we" in Path("small.onnx.md").read_bytes()


def test_json_has_all_of_it(assay, finished, small_data):
    """The figures of both, and the files."""
    more = ("--precision", "float16", "-o", "h.onnx", "--json", "-q")
    found = assay("export", finished, small_data.images, *more)
    facts = json.loads(found.out)
    assert found.err == ""
    assert [figures["precision"] for figures in facts["figures"]] == ["float32", "float16"]
    assert (facts["file"], facts["card"]) == ("h.onnx", "h.onnx.md")
    assert facts["report"]["accuracy"] == facts["figures"][1]["accuracy"][0]


def test_the_gate_stops_it(refused, finished, monkeypatch, here):
    """A file that lost too much is not written, and the exit code is 5."""
    monkeypatch.setattr(precision, "MAX_LOSS", -1.0)
    refused(5, "nothing was written", "export", finished, "-o", "a.onnx", "-q")
    assert not [*here.glob("a.onnx*")]


def test_a_page_takes_the_place_of_the_file(assay, finished, here):
    """--web writes the model, its card and what the browser needs; the command says how to serve it."""
    (here / "node").mkdir()
    for name in RUNTIME.values():
        (here / "node" / name).write_text("built elsewhere")
    for _ in range(2):  # an earlier page is replaced
        found = assay(
            "export", finished, "--web", "page", "--ort", "node", "--precision", "float32", "--json"
        )
        assert found.code == 0
    facts = json.loads((here / "page" / "model.json").read_text())
    assert (facts["labels"], facts["threshold"]) == ([*CLASSES], 0.8)
    assert facts["accuracy"].startswith("Of 24 images that it had never seen, the run")
    assert json.loads(found.out)["file"] == str(Path("page/model.onnx"))
    assert "python -m http.server --directory page" in found.err
    assert load_model(here / "page" / "model.onnx").labels == CLASSES
    assert (here / "page" / "model.onnx.md").read_text().startswith("# model.onnx\n")


def test_a_page_needs_a_place_and_a_runtime(refused, finished, here):
    """Two places, none, --ort alone, no --ort, a folder with other files: each is refused at once."""
    (here / "full").mkdir()
    (here / "full" / "notes.txt").touch()
    both = "expected --out FILE, or --web FOLDER with --ort, got neither or parts of both"
    for more in ((), ("-o", "a.onnx", "--web", "page"), ("-o", "a.onnx", "--ort", "node"), ("--ort", "node")):
        refused(2, both, "export", finished, *more)
    refused(2, "npm pack onnxruntime-web", "export", finished, "--web", "page")
    refused(2, "expected a new or empty folder", "export", finished, "--web", "full", "--ort", "node")
    assert not (here / "page").exists()
