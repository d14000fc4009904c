"""The same command resumes; another one is refused; nothing is done twice."""

import json
import shutil
from dataclasses import replace

import pytest
from small_runs import write_labels

from assay.data.dataset import Skipped
from assay.data.sources import FolderSource
from assay.errors import DataError, LabelError, OtherRunError
from assay.pipeline.run import run

SAME = ("labels.csv", "noise.json", "model/model.safetensors")
"""Equal bytes whenever settings and data are equal."""


def bytes_of(out) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in SAME}


def stamps(out) -> dict[str, int]:
    files = (file for file in out.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file): file.stat().st_mtime_ns for file in files}


def record_of(out) -> dict:
    return json.loads((out / "run.json").read_text())


def change_record(out, **changes) -> None:
    (out / "run.json").write_text(json.dumps(record_of(out) | changes))


def test_a_complete_run_is_left_as_it_is(finished, small_data, own_run, tmp_path):
    """The same call computes and writes nothing and reads the results; places and threads are no settings."""
    before, said = stamps(own_run), []
    options = replace(finished.options, cache=tmp_path / "elsewhere", workers=7)
    result = run(small_data.images, own_run, options, notify=said.append)
    assert said == [f"{own_run}: run is already complete; use --overwrite to rerun"]
    assert stamps(own_run) == before
    assert result.evaluation.keys() == finished.result.evaluation.keys()


def test_moved_data_are_the_same_data(finished, own_data, read_of, own_run):
    """A run is known by its labels and images, not by where they lie."""
    before = stamps(own_run)
    run(own_data.images, own_run, replace(finished.options, read=read_of(own_data)))
    assert stamps(own_run) == before


def test_a_rerun_gives_the_same_bytes_and_counts_the_evaluation(finished, small_data, own_run, tmp_path):
    """Damaged results are computed again, also from a fresh cache and with one thread."""
    before = bytes_of(own_run)
    (own_run / "labels.csv").unlink()
    (own_run / "noise.json").write_text("{}")
    run(small_data.images, own_run, replace(finished.options, cache=tmp_path / "cache", workers=1))
    assert bytes_of(own_run) == before
    assert (record_of(own_run)["processes"], record_of(own_run)["holdout_evaluations"]) == (2, 2)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_run_resumes_to_the_same_bytes(finished, small_data, own_run, overwrite):
    """A run that was killed before it wrote its results resumes, also with --overwrite."""
    before, said = bytes_of(own_run), []
    (own_run / "labels.csv").unlink()
    change_record(own_run, status="running", seconds={"embed": 5000.0})
    run(small_data.images, own_run, finished.options, overwrite=overwrite, notify=said.append)
    assert said[0] == f"{own_run}: resuming run"
    assert bytes_of(own_run) == before
    record = record_of(own_run)
    assert record["processes"] == 2
    assert 5000 < record["seconds"]["embed"] < record["cost"]["seconds"] < 6000


def test_a_killed_run_has_kept_its_seconds(finished, small_data, tmp_path, monkeypatch):
    """What was spent before the kill is in run.json."""
    monkeypatch.setattr("assay.pipeline.run.learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(small_data.images, tmp_path / "out", finished.options)
    assert record_of(tmp_path / "out")["seconds"]["embed"] > 0


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("now", [Skipped("missing"), b"other bytes"])
def test_images_that_change_during_a_run_end_it(finished, small_data, tmp_path, monkeypatch, now):
    """The run names an image that vanished or changed (fault 29), and the same call resumes."""
    seen, read = set(), FolderSource.read

    def once(self, index):
        again = index in seen
        seen.add(index)
        return now if again and index == 5 else read(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(FolderSource, "read", once)
        with pytest.raises(DataError, match=r"^'5\.png' was read before, and (is not there|has other)"):
            run(small_data.images, tmp_path / "out", finished.options)
    run(small_data.images, tmp_path / "out", finished.options)
    assert bytes_of(tmp_path / "out") == bytes_of(finished.out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 7}, "seed 0 there, 7 now"),
        ({"folds": 3, "threshold": 0.5}, "folds 5 there, 3 now; threshold 0.8 there, 0.5 now"),
        ({"holdout": 10}, "holdout None there, 10 now"),
        ({"backbone": "tf_efficientnet_lite0"}, "backbone 'tiny' there, 'tf_efficientnet_lite0' now"),
        ({"refit": True}, "refit False there, True now"),
    ],
)
def test_other_settings_are_refused_by_name(finished, small_data, own_run, change, message):
    """A run with other settings is refused before anything is computed, and left alone."""
    before = stamps(own_run)
    advice = "name another folder with --out, or replace it with --overwrite"
    with pytest.raises(OtherRunError, match=rf"^{own_run} holds a run with {message}; {advice}$"):
        run(small_data.images, own_run, replace(finished.options, **change))
    assert stamps(own_run) == before


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"titles": ["a", "b", "c"]}, "holds a run with other class names; name another"),
        ({"accept_truncated": True}, "holds a run with another --truncated; name another"),
        ({"max_pixels": 9}, "holds a run with another --max-pixels; name another"),
    ],
)
def test_other_readings_of_the_data_are_refused(finished, small_data, own_run, record, message):
    """What was read otherwise is named."""
    change_record(own_run, data=record_of(own_run)["data"] | record)
    with pytest.raises(OtherRunError, match=message):
        run(small_data.images, own_run, finished.options)


def test_other_labels_are_refused(finished, own_data, read_of, own_run):
    """One corrected label, or an image that is gone, makes another run."""
    options = replace(finished.options, read=read_of(own_data))
    flipped = own_data.noisy.copy()
    flipped[0] = (flipped[0] + 1) % 3
    file = write_labels(own_data.folder / "noisy.csv", range(240), flipped)
    with pytest.raises(OtherRunError, match=r"holds a run with other images or labels; name another"):
        run(own_data.images, own_run, options)
    write_labels(file, range(240), own_data.noisy)
    (own_data.images / "5.png").unlink()
    with pytest.raises(OtherRunError, match=r"other images or labels|files were changed since"):
        run(own_data.images, own_run, options)


@pytest.mark.parametrize("status", ["done", "running"])
def test_an_image_with_other_bytes_is_refused(finished, own_data, read_of, own_run, status):
    """A file that was replaced under its name makes other data; the run that is there stays as it was."""
    shutil.copy(own_data.images / "1.png", own_data.images / "0.png")
    change_record(own_run, status=status)
    before = stamps(own_run)
    message = r"holds a run with images whose files were changed since; name another"
    with pytest.raises(OtherRunError, match=message):
        run(own_data.images, own_run, replace(finished.options, read=read_of(own_data)))
    assert stamps(own_run) == before


def test_a_backbone_that_runs_otherwise_is_refused(finished, small_data, own_run):
    """Features computed in another way would give other bytes: the difference is named."""
    backbone = record_of(own_run)["backbone"] | {"plan": {"dtype": "bfloat16"}}
    change_record(own_run, status="running", backbone=backbone)
    message = r"holds a run with backbone .*'dtype': 'bfloat16'.* there, .* now"
    with pytest.raises(OtherRunError, match=message):
        run(small_data.images, own_run, finished.options)


def test_changed_packages_are_a_warning(finished, small_data, own_run):
    """A run that resumes with another version may end in other bytes."""
    versions = record_of(own_run)["versions"]
    change_record(own_run, status="running", versions=versions | {"numpy": "1.0", "gone": "1"})
    said = []
    run(small_data.images, own_run, finished.options, notify=said.append)
    words = (
        f"numpy 1.0 then, {versions['numpy']} now: the bytes may differ from those of an uninterrupted run"
    )
    assert said[1] == f"warning: {words}"


@pytest.mark.parametrize("change", ["settings", "versions", "contents", "done"])
def test_overwriting_starts_anew_where_anything_differs(finished, small_data, own_run, change):
    """Other settings, another version, other images or a complete run are replaced; the user's files stay."""
    record, said = record_of(own_run), []
    changes = {
        "settings": {"settings": record["settings"] | {"seed": 7}},
        "versions": {"versions": record["versions"] | {"numpy": "0.1"}},
        "contents": {"data": record["data"] | {"contents": "other"}},
        "done": {},
    }[change]
    change_record(own_run, **changes, status="done" if change == "done" else "running")
    (own_run / "notes.txt").write_text("mine")
    run(small_data.images, own_run, finished.options, overwrite=True, notify=said.append)
    assert not [line for line in said if "resuming" in line]
    assert (record_of(own_run)["processes"], record_of(own_run)["status"]) == (1, "done")
    assert (own_run / "notes.txt").read_text() == "mine"


def test_overwriting_spares_what_no_run_wrote(small_data, options, tmp_path):
    """A folder that holds no run is refused with ``overwrite`` too: its labels.csv may be the user's."""
    (tmp_path / "labels.csv").write_text("mine")
    with pytest.raises(OtherRunError, match=r"expected an empty folder or one that holds a run"):
        run(small_data.images, tmp_path, options, overwrite=True)
    assert (tmp_path / "labels.csv").read_text() == "mine"


@pytest.mark.parametrize(
    "slip",
    [{"backbone": "no-such-network"}, {"preset": "balanced", "student": "no-such-network"}],
    ids=lambda slip: [*slip][-1],
)
def test_overwriting_waits_for_what_can_be_refused(finished, small_data, own_run, slip):
    """A network that does not exist leaves the old run as it was."""
    before = stamps(own_run)
    with pytest.raises(Exception, match=r"no-such-network"):
        run(small_data.images, own_run, replace(finished.options, **slip), overwrite=True)
    assert stamps(own_run) == before


def test_overwriting_waits_until_the_images_were_read(finished, small_data, own_run, monkeypatch):
    """What only their pixels can refuse, such as a picture of two trusted labels, spares the old run too."""
    before = stamps(own_run)

    def refusing(*_):
        raise LabelError("one picture, two labels")

    monkeypatch.setattr("assay.pipeline.run.mask_holdout", refusing)
    with pytest.raises(LabelError, match="two labels"):
        run(small_data.images, own_run, replace(finished.options, seed=7), overwrite=True)
    assert stamps(own_run) == before
