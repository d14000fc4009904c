"""The same command resumes; another one is refused; nothing is done twice."""

import json
import shutil
from dataclasses import replace

import pytest
from small_runs import read_record, same_bytes, write_labels

from assay.data.dataset import Skipped
from assay.data.sources import FolderSource
from assay.errors import DataError, LabelError, OtherRunError
from assay.pipeline.run import run


def stamps(out) -> dict[str, int]:
    files = (file for file in out.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file): file.stat().st_mtime_ns for file in files}


def change_record(out, **changes) -> None:
    (out / "run.json").write_text(json.dumps(read_record(out) | changes))


@pytest.fixture
def killed(monkeypatch):
    """Run until that step of a run begins, and die there."""

    def kill(step, *arguments, **named):
        def interrupted(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(f"assay.pipeline.run.{step}", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run(*arguments, **named)

    return kill


def test_a_complete_run_is_left_as_it_is(finished, own_data, own_run, tmp_path):
    """The same call, on moved data, with another cache and other threads, reads the results."""
    before, said = stamps(own_run), []
    options = replace(finished.options, read=own_data.read, cache=tmp_path / "elsewhere", workers=7)
    result = run(own_data.images, own_run, options, notify=said.append)
    assert said == [f"{own_run}: run is already complete; use --overwrite to rerun"]
    assert stamps(own_run) == before
    assert result.evaluation.keys() == finished.result.evaluation.keys()


def test_a_rerun_gives_the_same_bytes_and_counts_the_evaluation(finished, small_data, own_run, tmp_path):
    """Damaged results are computed again, also from a fresh cache and with one thread."""
    (own_run / "labels.csv").unlink()
    (own_run / "noise.json").write_text("{}")
    run(small_data.images, own_run, replace(finished.options, cache=tmp_path / "cache", workers=1))
    assert same_bytes(own_run) == same_bytes(finished.out)
    assert (read_record(own_run)["processes"], read_record(own_run)["holdout_evaluations"]) == (2, 2)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_killed_run_resumes_to_the_same_bytes(finished, small_data, killed, tmp_path, overwrite):
    """Its seconds are kept and added to; an interrupted run resumes with --overwrite too."""
    out, said = tmp_path / "out", []
    killed("learn", small_data.images, out, finished.options)
    assert read_record(out)["seconds"]["embed"] > 0
    change_record(out, seconds={"embed": 5000.0})
    run(small_data.images, out, finished.options, overwrite=overwrite, notify=said.append)
    assert said[0] == f"{out}: resuming run"
    assert same_bytes(out) == same_bytes(finished.out)
    record = read_record(out)
    assert record["processes"] == 2
    assert 5000 < record["seconds"]["embed"] < record["cost"]["seconds"] < 6000


def test_images_that_change_during_a_run_end_it(finished, small_data, tmp_path, monkeypatch):
    """The run names an image that vanished or changed (fault 29); the same call can be given again."""
    read = FolderSource.read
    for now in (Skipped("missing"), b"other bytes"):
        seen = set()

        def change_second(self, index, seen=seen, now=now):
            again = index in seen
            seen.add(index)
            return now if again else read(self, index)

        with monkeypatch.context() as patch:
            patch.setattr(FolderSource, "read", change_second)
            with pytest.raises(DataError, match=r"^'\d+\.png' was read before, and (can no|has other)"):
                run(small_data.images, tmp_path / "out", finished.options)
    run(small_data.images, tmp_path / "out", finished.options)
    assert same_bytes(tmp_path / "out") == same_bytes(finished.out)


def test_other_settings_are_refused_by_name(finished, small_data, own_run):
    """Nothing is computed, and the run that is there stays as it was."""
    before = stamps(own_run)
    advice = "name another folder with --out, or replace it with --overwrite"
    for change, message in (
        ({"folds": 3, "threshold": 0.5}, "folds 5 there, 3 now; threshold 0.8 there, 0.5 now"),
        ({"holdout": 10}, "holdout None there, 10 now"),
        ({"backbone": "tf_efficientnet_lite0"}, "backbone 'tiny' there, 'tf_efficientnet_lite0' now"),
        ({"refit": True}, "refit False there, True now"),
    ):
        with pytest.raises(OtherRunError, match=rf"^{own_run} holds a run with {message}; {advice}$"):
            run(small_data.images, own_run, replace(finished.options, **change))
    assert stamps(own_run) == before


def test_other_data_are_refused_by_name(finished, own_data, own_run):
    """Class names, ways to read, a label, an image of other bytes or none: each makes other data."""
    options, record = replace(finished.options, read=own_data.read), read_record(own_run)
    for facts, message in (
        ({"titles": ["a", "b", "c"]}, "other class names"),
        ({"decisions": "of a review"}, "other decisions"),
        ({"accept_truncated": True}, "another --truncated"),
        ({"max_pixels": 9}, "another --max-pixels"),
    ):
        change_record(own_run, data=record["data"] | facts)
        with pytest.raises(OtherRunError, match=f"holds a run with {message}; name another"):
            run(own_data.images, own_run, options)
    flipped = own_data.noisy.copy()
    flipped[0] = (flipped[0] + 1) % 3
    file = write_labels(own_data.folder / "noisy.csv", range(240), flipped)
    change_record(own_run, **record)
    with pytest.raises(OtherRunError, match=r"holds a run with other images or labels; name another"):
        run(own_data.images, own_run, options)
    write_labels(file, range(240), own_data.noisy)
    shutil.copy(own_data.images / "1.png", own_data.images / "0.png")
    for status in ("done", "running"):
        change_record(own_run, status=status)
        before = stamps(own_run)
        with pytest.raises(OtherRunError, match=r"with images whose files were changed since; name another"):
            run(own_data.images, own_run, options)
        assert stamps(own_run) == before
    (own_data.images / "5.png").unlink()
    with pytest.raises(OtherRunError, match=r"other images or labels|files were changed since"):
        run(own_data.images, own_run, options)


def test_other_machines_are_named(finished, small_data, own_run, killed):
    """A run does not resume with other arithmetic; other versions of packages are a warning."""
    record, said = read_record(own_run), []
    change_record(own_run, status="running", backbone=record["backbone"] | {"plan": {"dtype": "bfloat16"}})
    message = r"holds a run with backbone .*'dtype': 'bfloat16'.* there, .* now"
    with pytest.raises(OtherRunError, match=message):
        run(small_data.images, own_run, finished.options)
    versions = record["versions"]
    change_record(own_run, backbone=record["backbone"], versions=versions | {"numpy": "1.0", "gone": "1"})
    killed("embed_images", small_data.images, own_run, finished.options, notify=said.append)
    assert said[1] == (
        f"warning: numpy 1.0 then, {versions['numpy']} now: "
        "the bytes may differ from those of an uninterrupted run"
    )


def test_overwriting_starts_anew_where_anything_differs(finished, small_data, own_run, killed):
    """Other settings, versions or images do not resume; a complete run is replaced, the user's files stay."""
    record, said = read_record(own_run), []
    for changes in (
        {"settings": record["settings"] | {"seed": 7}},
        {"versions": record["versions"] | {"numpy": "0.1"}},
        {"data": record["data"] | {"contents": "other"}},
    ):
        change_record(own_run, **record | changes | {"status": "running"})
        named = {"overwrite": True, "notify": said.append}
        killed("embed_images", small_data.images, own_run, finished.options, **named)
    change_record(own_run, **record)
    (own_run / "notes.txt").write_text("mine")
    run(small_data.images, own_run, finished.options, overwrite=True, notify=said.append)
    assert not [line for line in said if "resuming" in line]
    assert (read_record(own_run)["processes"], read_record(own_run)["status"]) == (1, "done")
    assert (own_run / "notes.txt").read_text() == "mine"


def test_overwriting_waits_for_what_can_be_refused(finished, small_data, own_run, monkeypatch):
    """An unknown network, or an image with two trusted labels, leaves the old run as it was."""
    before = stamps(own_run)
    for slip in ({"backbone": "no-such-network"}, {"preset": "balanced", "student": "no-such-network"}):
        with pytest.raises(Exception, match=r"no-such-network"):
            run(small_data.images, own_run, replace(finished.options, **slip), overwrite=True)

    def refusing(*_):
        raise LabelError("one image, two labels")

    monkeypatch.setattr("assay.pipeline.run.mask_holdout", refusing)
    with pytest.raises(LabelError, match="two labels"):
        run(small_data.images, own_run, replace(finished.options, seed=7), overwrite=True)
    assert stamps(own_run) == before
