"""A saved model's graph in onnxruntime."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image
from scipy.special import softmax
from small_runs import draw_image

from assay.correct.posterior import NO_FLOOR, Calibration
from assay.data.loader import load_image
from assay.embed.tiny import TinyBackbone
from assay.errors import ModelError
from assay.export.graph import build_graph
from assay.predict import runtime
from assay.predict.runtime import flip_tta, load_runtime

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
def images():
    """Forty drawn images: more than one batch."""
    generator = np.random.default_rng(0)
    return np.stack([draw_image(row % 3, generator) for row in range(40)])


@pytest.fixture
def changed(model):
    """The model with its graph changed by a function."""

    def change(by):
        read = onnx.load_model_from_string(model.graph)
        by(read.graph)
        return replace(model, graph=read.SerializeToString())

    return change


def test_probabilities_are_those_of_the_model(model, images, tmp_path):
    """From a model or its folder: one row an image, in order, that sums to 1."""
    expected = model.probabilities(TinyBackbone().embed(images))
    model.save(tmp_path / "run" / "model")
    for place in (model, tmp_path / "run", str(tmp_path / "run" / "model")):
        found = load_runtime(place).probabilities(images)
        assert (found.shape, found.dtype) == ((40, 3), np.float32)
        assert found == pytest.approx(expected, abs=1e-5)
        assert found.sum(axis=1) == pytest.approx(np.ones(40), abs=1e-5)


def test_batches_and_threads_change_nothing(model, images, monkeypatch):
    """One image at a time, odd batches, one thread or two, and calls from several threads at once."""
    expected = load_runtime(model, threads=1).probabilities(images)
    loaded = load_runtime(model, threads=2)
    alone = np.concatenate([loaded.probabilities(images[row : row + 1]) for row in range(40)])
    assert alone == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr(runtime, "CALL", 7)
    assert loaded.probabilities(images) == pytest.approx(expected, abs=1e-6)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(loaded.probabilities, [images] * 8):
            assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_unsure_images_are_predicted_mirrored_too(model, images, tmp_path, share):
    """The geometric mean is the result, also of a model from a folder or a lone file."""
    first = load_runtime(model).probabilities(images)
    below = float(np.quantile(first.max(axis=1), share)) if share else 0.0
    twice = replace(model, flip_tta_below=below)
    twice = replace(twice, graph=build_graph(twice))
    twice.save(tmp_path / "model")
    loaded = load_runtime(twice)
    found = loaded.probabilities(images)
    assert (loaded.without_tta(images) == first).all()
    again = first.max(axis=1) < below
    assert again.mean() == pytest.approx(share, abs=0.03)
    both = np.sqrt(first * loaded.without_tta(images[:, :, ::-1]))
    assert (found[~again] == first[~again]).all()
    assert found[again] == pytest.approx((both / both.sum(axis=1, keepdims=True))[again], abs=1e-6)
    for place in (tmp_path, tmp_path / "model" / "model.onnx"):
        one = load_runtime(place)
        assert one.flip_tta_below == below
        assert one.probabilities(images[:1]) == pytest.approx(found[:1], abs=1e-6)


def test_the_guide_shows_test_time_augmentation(model, images):
    """The code of docs/predict.md for other programs gives the same probabilities."""
    guide = (SOURCE.parent / "docs" / "predict.md").read_text(encoding="utf-8")
    code = "probabilities = run" + guide.split("\nprobabilities = run")[1].split("```")[0]
    loaded = load_runtime(replace(model, flip_tta_below=0.9))
    mixed = np.concatenate([images[:20], images[:20] // 2 + images[20:] // 2])
    unsure = loaded.without_tta(mixed).max(axis=1) < 0.9
    assert 0 < unsure.sum() < len(mixed)
    for row, expected in enumerate(loaded.probabilities(mixed)):
        names = {"run": loaded.without_tta, "pixels": mixed[row : row + 1]}
        exec(code, names)
        assert names["probabilities"][0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("interpolation", ["bicubic", "sharp"])
def test_a_client_that_knows_the_metadata_predicts_the_same(model, tmp_path, monkeypatch, interpolation):
    """The client of docs/predict.md: images enlarged, reduced, not square, turned; to the bit."""
    monkeypatch.chdir(tmp_path)
    made = replace(model, interpolation=interpolation)
    Path("classifier.onnx").write_bytes(build_graph(made))
    generator = np.random.default_rng(0)
    sides = [(8, 8), (20, 31), (31, 20), (32, 32), (33, 60), (200, 90), (700, 900)]
    drawn = [
        Image.fromarray(draw_image(row % 3, generator, side=max(width, height))[:height, :width])
        for row, (width, height) in enumerate(sides)
    ]
    turned = Image.Exif()
    turned[0x0112] = 6
    for row, image in enumerate(drawn):
        image.save(f"{row}.png")
        image.save(f"{row}.jpg")
        image.save(f"{row}-turned.jpg", exif=turned)
    drawn[1].save("cat.png")
    guide = (SOURCE.parent / "docs" / "predict.md").read_text(encoding="utf-8")
    client = {}
    exec("import json\n" + guide.split("```python\nimport json\n")[1].split("```")[0], client)
    loaded = load_runtime(made)
    for file in sorted(tmp_path.iterdir()):
        if file.suffix != ".onnx":
            pixels = load_image(file, loaded.target).pixels[None]
            assert (client["read"](file) == pixels).all()
            assert (client["run"](pixels) == loaded.without_tta(pixels)).all()


def test_views_and_no_images(model, images):
    """A mirrored view is copied first; no image gives no row."""
    loaded = load_runtime(model)
    mirrored = loaded.probabilities(images[:, :, ::-1])
    assert (mirrored == loaded.probabilities(np.ascontiguousarray(images[:, :, ::-1]))).all()
    assert loaded.probabilities(images[:0]).shape == (0, 3)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("wrong", "described"),
    [
        (np.zeros((2, 16, 16, 3), np.uint8), r"uint8 \(2, 16, 16, 3\)"),
        (np.zeros((2, 32, 32, 3), np.float32), r"float32 \(2, 32, 32, 3\)"),
        (np.zeros((32, 32, 3), np.uint8), r"uint8 \(32, 32, 3\)"),
    ],
)
def test_images_of_another_form_are_refused(model, wrong, described):
    """The message says what was expected and what came."""
    with pytest.raises(ValueError, match=rf"^images: expected uint8 \(N, 32, 32, 3\), got {described}$"):
        load_runtime(model).probabilities(wrong)


def test_a_model_without_a_graph_says_what_to_do(model, tmp_path):
    """A model that was not exported must be made again."""
    replace(model, graph=b"").save(tmp_path / "model")
    message = (
        r"^expected a model with model.onnx, which is what predicts, got one without; "
        r"make it again with --overwrite$"
    )
    with pytest.raises(ModelError, match=message):
        load_runtime(tmp_path / "model")


def test_what_onnxruntime_cannot_run_is_a_bad_model(changed, images, capfd):
    """A shape that no batch fits: no word on stderr."""

    def before_the_last(graph):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([7, 11]), "own-sides"))
        own = helper.make_node("Reshape", [graph.node[-2].output[0], "own-sides"], ["own"])
        graph.node[-1].input[0] = "own"
        graph.node.insert(len(graph.node) - 1, own)

    with pytest.raises(ModelError, match=r"^model.onnx: onnxruntime cannot (load|run) it: "):
        load_runtime(changed(before_the_last)).probabilities(images[:1])
    assert capfd.readouterr() == ("", "")


def test_answers_that_are_no_probabilities_are_refused(changed, images):
    """NaN is not an answer."""

    def nothing(graph):
        for tensor in graph.initializer:
            if list(tensor.dims) == [3]:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(3, np.nan, np.float32), tensor.name))

    message = r"^model.onnx: expected probabilities of each image and label, got others$"
    with pytest.raises(ModelError, match=message):
        load_runtime(changed(nothing)).probabilities(images[:1])


def test_as_many_calls_at_once_as_this_process_has_cores(model, images, monkeypatch):
    """The default follows what the system allows; each call meets the others, so none waits its turn."""
    monkeypatch.setattr(runtime, "cores", lambda: 3)
    assert (load_runtime(model).threads, load_runtime(model, threads=1).threads) == (3, 1)
    meeting = Barrier(3, timeout=30)

    class Meeting:
        def run(self, wanted, noisy):
            meeting.wait()
            return real.session.run(wanted, noisy)

    real = load_runtime(model)
    met = replace(real, session=Meeting()).probabilities(images[:24])
    assert met == pytest.approx(real.probabilities(images[:24]), abs=1e-6)


FORBIDDEN = ("torch", "torchvision", "timm", "onnxscript")

WITHOUT = """
import importlib.abc, sys

asked_for = []

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {forbidden!r}:
            asked_for.append(name)
            raise ImportError(name + " is not installed")

sys.meta_path.insert(0, Blocked())
"""


def test_predicting_and_evaluating_need_no_torch(model, new_images, tmp_path):
    """Neither command asks for torch or timm, and both work where these are not installed."""
    model.save(tmp_path / "model")
    (tmp_path / "labels.csv").write_text("file,label\n5.png,cedar\n6.png,ash\n")
    code = WITHOUT.format(forbidden=FORBIDDEN) + textwrap.dedent(
        """
        import assay
        from assay.cli.app import run_app
        place, new, labels = sys.argv[1:]
        assert run_app(["predict", place, new]) == 0
        assert run_app(["evaluate", place, new, "--labels", labels, "--json"]) == 0
        assert len(assay.load_model(place).predict(new).names) == 11
        assert not asked_for, asked_for
        """
    )
    paths = os.pathsep.join([str(SOURCE), *(path for path in sys.path if path)])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model"), str(new_images), str(tmp_path / "labels.csv")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    assert "5.png,cedar," in done.stdout


@pytest.mark.parametrize(
    "words", ["Failed to allocate memory for requested buffer of size 9437184", "std::bad_alloc"]
)
def test_a_full_memory_is_no_fault_of_the_model(model, images, words):
    """It is a MemoryError: copying the model again would not help."""

    class Full:
        def run(self, *_):
            raise RuntimeError(words)

    with pytest.raises(MemoryError, match=words):
        replace(load_runtime(model), session=Full()).probabilities(images)


def test_the_runtime_reports_nothing(model, tmp_path):
    """Onnxruntime would keep an identifier of the machine in the home folder, and send what it runs."""
    model.save(tmp_path / "model")
    home = tmp_path / "home"
    home.mkdir()
    # It is silent by itself where it believes to be tested.
    told = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")
    kept = {name: value for name, value in os.environ.items() if name not in told}
    environment = kept | {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    code = "import sys, assay; print(assay.load_model(sys.argv[1]).labels)"
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    subprocess.run(command, env=environment, capture_output=True, check=True)
    assert [*home.rglob("*")] == []


def test_a_lone_graph_is_a_model(model, images, tmp_path):
    """Its metadata has what the folder has: labels, titles, size, resize and thresholds."""
    named = replace(model, titles=("A", "B", "C"), interpolation="nearest")
    named = replace(named, graph=build_graph(named))
    file = lone_file(named, tmp_path, conformal='{"0.9": 0.2}', class_prior="[0.5, 0.25, 0.25]")
    facts = {"conformal": {"0.9": 0.2}, "class_prior": [0.5, 0.25, 0.25]}
    alone, whole = load_runtime(file), load_runtime(replace(named, facts=facts))
    assert load_runtime(named).prior is None
    for one in (alone, whole):
        assert one.prior.tolist() == [0.5, 0.25, 0.25]
        assert (one.labels, one.titles, one.size) == (model.labels, ("A", "B", "C"), 32)
        assert (one.interpolation, one.thresholds) == ("nearest", {"0.9": 0.2})
    assert np.array_equal(alone.probabilities(images), whole.probabilities(images))


def lone_file(model, folder, **changes):
    """The graph of the model as a file, with other metadata; None takes an entry away."""
    read = onnx.load_model_from_string(model.graph)
    metadata = {entry.key: entry.value for entry in read.metadata_props} | changes
    helper.set_model_props(read, {key: text for key, text in metadata.items() if text is not None})
    (folder / "alone.onnx").write_bytes(read.SerializeToString())
    return folder / "alone.onnx"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("size", value) for value in ("64", "0", "many", None)),
        *(
            ("labels", value)
            for value in ('["a", "b"]', "7", '"abc"', '["a", "a", "b"]', "[" * 100_000, "{", None)
        ),
        ("titles", '["one"]'),
        ("interpolation", "lanczos"),
        *(
            ("conformal", value)
            for value in ('{"0.9": 2}', '{"2": 0.1}', '{"many": 0.1}', "[]", '{"0.9": 1' + "0" * 400 + "}")
        ),
        *(("class_prior", value) for value in ("[0.5, 0.5]", "[0, 0.5, 0.5]", "[1, 1, 1]", "{}", "[2, -1]")),
        *(("flip_tta_below", value) for value in ("1.1", "nan", "often")),
        ("figures", "{}"),  # such a file has a hash of itself
    ],
)
def test_a_lone_graph_that_is_not_ours_is_refused(model, tmp_path, name, value):
    """Metadata that is missing, or that the graph itself contradicts."""
    with pytest.raises(ModelError, match=r"alone\.onnx: expected a file of assay export, got another"):
        load_runtime(lone_file(model, tmp_path, **{name: value}))


def test_thresholds_that_are_no_probabilities_are_refused(model):
    """In a model folder too."""
    with pytest.raises(ModelError, match=r"config.json: expected facts as assay writes them, got others"):
        load_runtime(replace(model, facts={"conformal": {"0.9": 2}}))


@pytest.mark.parametrize("name", ["alone.onnx", "ALONE.ONNX"])
def test_a_lone_file_is_a_regular_one(tmp_path, name):
    """A pipe would be waited for, a device has no end; other bytes are no graph."""
    (tmp_path / name).write_bytes(b"PK\x03\x04 no graph")
    with pytest.raises(ModelError, match=r"expected a file of assay export, got another .*expected an ONNX"):
        load_runtime(tmp_path / name)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ModelError, match="expected a file that can be read, got not_regular"):
        load_runtime(tmp_path / name)


PLAIN, MIRRORED = softmax(np.random.default_rng(0).normal(0, 2, (2, 50, 4)), axis=2)


def test_calibration_may_come_before_or_after_flip_tta():
    """One temperature and a bias for each class: the mean of logarithms lets both pass."""
    change = Calibration(1.7, np.array([0.3, -0.2, 0.1, -0.2]), NO_FLOOR)
    before = flip_tta(change.apply(PLAIN), lambda rows: change.apply(MIRRORED[rows]), 1.0)
    assert before == pytest.approx(change.apply(flip_tta(PLAIN, lambda rows: MIRRORED[rows], 1.0)))


def test_predictions_that_exclude_each_other_leave_probabilities():
    """A probability of 0, as float32 rounds it, counts as a tiny one: no NaN comes of it."""
    plain, mirror = (np.array([row], np.float32) for row in ([0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]))
    found = flip_tta(plain, lambda rows: mirror[rows], 0.9)
    assert found.dtype == np.float32
    assert found == pytest.approx(np.full((1, 4), 0.25), abs=1e-6)
