"""The same command goes on; another one is refused; nothing is done twice."""

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
    return {str(file): file.stat().st_mtime_ns for file in out.rglob("*") if file.is_file()}


def record_of(out) -> dict:
    return json.loads((out / "run.json").read_text())


def change_record(out, **changes) -> None:
    (out / "run.json").write_text(json.dumps(record_of(out) | changes))


def test_a_finished_run_is_left_as_it_is(finished, small_data, own_run):
    """The command given again says so, computes nothing and writes nothing, the lock aside."""
    before, said = stamps(own_run), []
    computed = run(small_data.images, own_run, finished.options, notify=said.append)
    assert computed is False
    assert said == [f"{own_run}: this very run is finished: nothing was computed; --overwrite starts anew"]
    after = stamps(own_run)
    assert {name: after[name] for name in before if ".lock" not in name} == {
        name: stamp for name, stamp in before.items() if ".lock" not in name
    }


def test_a_finished_run_computed_again_gives_the_same_bytes(finished, small_data, own_run):
    """``run`` needs the evidence in memory, so it computes; the files are the same, the seal is counted."""
    before = bytes_of(own_run)
    run(small_data.images, own_run, finished.options)
    assert bytes_of(own_run) == before
    assert (record_of(own_run)["processes"], record_of(own_run)["holdout_evaluations"]) == (2, 2)


def test_damaged_results_are_computed_again(finished, small_data, own_run):
    """A result that was deleted or changed since comes back."""
    before = bytes_of(own_run)
    (own_run / "labels.csv").unlink()
    (own_run / "noise.json").write_text("{}")
    assert run(small_data.images, own_run, finished.options) is True
    assert bytes_of(own_run) == before


def test_an_unfinished_run_goes_on_to_the_same_bytes(finished, small_data, own_run):
    """A run that was killed before it wrote its results ends as if it had not been."""
    before, said = bytes_of(own_run), []
    (own_run / "labels.csv").unlink()
    change_record(own_run, status="running", seconds={"embed": 5000.0})
    assert run(small_data.images, own_run, finished.options, notify=said.append) is True
    assert said[0] == f"{own_run}: going on with the run that was begun here"
    assert bytes_of(own_run) == before
    record = record_of(own_run)  # the seconds of both processes
    assert 5000 < record["seconds"]["embed"] < record["cost"]["seconds"] < 6000
    run(small_data.images, own_run, finished.options)  # anew: no part of it was done before
    assert record_of(own_run)["cost"]["seconds"] < 1000


def test_a_killed_run_has_kept_its_seconds(finished, small_data, tmp_path, monkeypatch):
    """Those of what was done before it was killed."""
    monkeypatch.setattr("assay.pipeline.work.learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(small_data.images, tmp_path / "out", finished.options)
    assert record_of(tmp_path / "out")["seconds"]["embed"] > 0


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("now", [Skipped("missing"), b"other bytes"])
def test_images_that_change_during_a_run_end_it(finished, small_data, tmp_path, monkeypatch, now):
    """What one step read is what the next one must find: no picture of zeros is learned from."""
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


def test_a_fresh_cache_changes_nothing(finished, small_data, tmp_path):
    """Features from another cache, computed by one thread, give the same bytes."""
    options = replace(finished.options, cache=tmp_path / "cache", workers=1)
    run(small_data.images, tmp_path / "out", options)
    assert bytes_of(tmp_path / "out") == bytes_of(finished.out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 7}, "seed 0 there, 7 now"),
        ({"folds": 3, "threshold": 0.5}, "folds 5 there, 3 now; threshold 0.8 there, 0.5 now"),
        ({"holdout": 10}, "holdout None there, 10 now"),
        ({"backbone": "tf_efficientnet_lite0"}, "backbone 'tiny' there, 'tf_efficientnet_lite0' now"),
    ],
)
def test_other_settings_are_refused_by_name(finished, small_data, own_run, change, message):
    """A run with other settings is refused before anything is computed, and left alone."""
    before = stamps(own_run)
    advice = "name another folder with --out, or start anew with --overwrite"
    with pytest.raises(OtherRunError, match=rf"^{own_run} holds a run with {message}; {advice}$"):
        run(small_data.images, own_run, replace(finished.options, **change))
    assert {name for name, stamp in stamps(own_run).items() if before.get(name) != stamp} <= {
        str(own_run / ".lock")
    }


def test_where_and_how_fast_are_no_settings(finished, small_data, own_run, tmp_path):
    """Another cache or number of threads is the same run."""
    options = replace(finished.options, cache=tmp_path / "elsewhere", workers=7)
    assert run(small_data.images, own_run, options) is False


def test_moved_data_are_the_same_data(finished, own_data, read_of, own_run):
    """A run is known by its labels and images, not by where they lie."""
    assert run(own_data.images, own_run, replace(finished.options, read=read_of(own_data))) is False


def test_other_labels_are_refused(finished, own_data, read_of, own_run):
    """One label that was corrected makes another run."""
    flipped = own_data.noisy.copy()
    flipped[0] = (flipped[0] + 1) % 3
    write_labels(own_data.folder / "noisy.csv", range(240), flipped)
    with pytest.raises(OtherRunError, match=r"holds a run with other images or labels; name another"):
        run(own_data.images, own_run, replace(finished.options, read=read_of(own_data)))


def test_other_class_names_are_refused(finished, small_data, own_run):
    """The names for people are part of the model."""
    data = record_of(own_run)["data"] | {"titles": ["a", "b", "c"]}
    change_record(own_run, data=data)
    with pytest.raises(OtherRunError, match=r"holds a run with other class names; name another"):
        run(small_data.images, own_run, finished.options)


@pytest.mark.parametrize("status", ["done", "running"])
def test_an_image_with_other_bytes_is_refused(finished, own_data, read_of, own_run, status):
    """A file that was replaced under its name makes other data, whether the run was finished or not."""
    shutil.copy(own_data.images / "1.png", own_data.images / "0.png")
    change_record(own_run, status=status)
    message = r"holds a run with images whose files were changed since; name another"
    with pytest.raises(OtherRunError, match=message):
        run(own_data.images, own_run, replace(finished.options, read=read_of(own_data)))


def test_a_refused_run_leaves_the_finished_one_as_it_was(finished, own_data, read_of, own_run):
    """Its results are still those of a finished run."""
    shutil.copy(own_data.images / "1.png", own_data.images / "0.png")
    before = (own_run / "run.json").read_bytes()
    with pytest.raises(OtherRunError, match="files were changed since"):
        run(own_data.images, own_run, replace(finished.options, read=read_of(own_data)))
    assert (own_run / "run.json").read_bytes() == before


def test_an_image_that_went_missing_is_refused(finished, own_data, read_of, own_run):
    """A label whose image is gone makes other data."""
    (own_data.images / "5.png").unlink()
    with pytest.raises(OtherRunError, match=r"other images or labels|files were changed since"):
        run(own_data.images, own_run, replace(finished.options, read=read_of(own_data)))


def test_a_backbone_that_runs_otherwise_is_refused(finished, small_data, own_run):
    """Features computed in another way would give other bytes: the difference is named."""
    backbone = record_of(own_run)["backbone"] | {"plan": {"dtype": "bfloat16"}}
    change_record(own_run, status="running", backbone=backbone)
    with pytest.raises(
        OtherRunError, match=r"holds a run with backbone .*'dtype': 'bfloat16'.* there, .* now"
    ):
        run(small_data.images, own_run, finished.options)


def test_changed_packages_are_said(finished, small_data, own_run):
    """A run that goes on with another version warns that its bytes may differ."""
    versions = record_of(own_run)["versions"]
    change_record(own_run, status="running", versions=versions | {"numpy": "1.0"})
    said = []
    run(small_data.images, own_run, finished.options, notify=said.append)
    now = versions["numpy"]
    assert said[1] == (
        f"warning: numpy 1.0 then, {now} now: the bytes may differ from those of an unbroken run"
    )


def test_overwriting_starts_anew(finished, small_data, own_run):
    """With ``overwrite`` a run with other settings takes the place of the old one; other files stay."""
    (own_run / "notes.txt").write_text("mine")
    options = replace(finished.options, seed=7)
    assert run(small_data.images, own_run, options, overwrite=True) is True
    record = record_of(own_run)
    assert (record["settings"]["seed"], record["processes"], record["status"]) == (7, 1, "done")
    assert (own_run / "notes.txt").read_text() == "mine"
    assert bytes_of(own_run) != bytes_of(finished.out)


def test_overwriting_spares_what_no_run_wrote(small_data, options, tmp_path):
    """A folder that holds no run is refused with ``overwrite`` too: its labels.csv may be the user's."""
    (tmp_path / "labels.csv").write_text("mine")
    with pytest.raises(OtherRunError, match=r"expected an empty folder or one that holds a run"):
        run(small_data.images, tmp_path, options, overwrite=True)
    assert (tmp_path / "labels.csv").read_text() == "mine"


@pytest.mark.parametrize(
    "slip",
    [
        {"backbone": "no-such-network"},
        {"preset": "balanced", "student": "no-such-network"},
        {"preset": "balanced", "teacher": "no-such-network"},
    ],
    ids=lambda slip: [*slip][-1],
)
def test_overwriting_waits_for_what_can_be_refused(finished, small_data, own_run, slip):
    """A network that does not exist leaves the old run as it was."""
    before = bytes_of(own_run)
    with pytest.raises(Exception, match=r"no-such-network"):
        run(small_data.images, own_run, replace(finished.options, **slip), overwrite=True)
    assert bytes_of(own_run) == before
    assert record_of(own_run)["status"] == "done"


def test_overwriting_waits_until_the_images_were_looked_at(finished, small_data, own_run, monkeypatch):
    """What only their pixels can refuse, such as a picture of two trusted labels, spares the old run too."""
    before, record = bytes_of(own_run), record_of(own_run)

    def refusing(*_):
        raise LabelError("one picture, two labels")

    monkeypatch.setattr("assay.pipeline.work.close_seal", refusing)
    with pytest.raises(LabelError, match="two labels"):
        run(small_data.images, own_run, replace(finished.options, seed=7), overwrite=True)
    assert (bytes_of(own_run), record_of(own_run)) == (before, record)


def test_an_interrupted_overwrite_goes_on(finished, small_data, own_run):
    """The same command, its ``--overwrite`` included, is no reason to learn what was learned anew."""
    before, said = bytes_of(own_run), []
    (own_run / "labels.csv").unlink()
    change_record(own_run, status="running")
    assert run(small_data.images, own_run, finished.options, overwrite=True, notify=said.append) is True
    assert said[0] == f"{own_run}: going on with the run that was begun here"
    assert record_of(own_run)["processes"] == 2
    assert bytes_of(own_run) == before


@pytest.mark.parametrize("change", ["settings", "versions", "contents", "done"])
def test_overwrite_starts_anew_where_anything_is_other(finished, small_data, own_run, change):
    """Other settings, another version or other images, or a run that was finished."""
    record, said = record_of(own_run), []
    changes = {
        "settings": {"settings": record["settings"] | {"seed": 7}},
        "versions": {"versions": record["versions"] | {"numpy": "0.1"}},
        "contents": {"data": record["data"] | {"contents": "other"}},
        "done": {},
    }[change]
    change_record(own_run, **changes, status="done" if change == "done" else "running")
    run(small_data.images, own_run, finished.options, overwrite=True, notify=said.append)
    assert not [line for line in said if "going on" in line]
    assert record_of(own_run)["processes"] == 1
