"""The same comparison again: what is done stays, what is other is refused."""

from dataclasses import replace

import pytest
from small_compare import GOOD, KNOWN
from small_runs import write_labels

from assay.errors import BusyError, OtherRunError, UsageError
from assay.notebook.compare import compare
from assay.notebook.compare_folder import CompareFolder

pytestmark = pytest.mark.slow


def times_of(folder):
    """When each file was written."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("[!.]*") if file.is_file()}


def test_what_is_done_is_not_done_again(partly, compared):
    """Recipes that another table needed are taken as they are: the same process trained them."""
    for system in ("histogram", "model-2"):
        assert compared.rows()[system] == partly.rows()[system]
    assert compared.found.exit_code == 0
    assert compared.found.record["systems"] == list(GOOD)


def test_a_finished_comparison_is_left_as_it_is(compared, own_comparison, small_data):
    """The command given again says so, opens no seal and writes nothing."""
    before = times_of(own_comparison)
    said = []
    found = compare(small_data.images, own_comparison, compared.options, known=KNOWN, notify=said.append)
    assert (found.computed, found.rows) == (False, compared.found.rows)
    assert said == [
        f"{own_comparison}: this very comparison is finished: nothing was computed; --overwrite starts anew"
    ]
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_a_lost_table_is_put_together_again(compared, own_comparison, small_data):
    """Without compare.md the comparison is not finished, but nothing is trained or measured for it."""
    page = (own_comparison / "compare.md").read_bytes()
    (own_comparison / "compare.md").unlink()
    found = compare(small_data.images, own_comparison, compared.options, known=KNOWN)
    assert found.computed
    assert (own_comparison / "compare.md").read_bytes() == page
    assert found.rows == compared.found.rows


@pytest.mark.usefixtures("here")
def test_changed_files_are_made_again(compared, own_comparison, small_data):
    """A model with another byte is trained again, answers that were changed are asked again; no others."""
    with (own_comparison / "models" / "model-2" / "model.safetensors").open("ab") as file:
        file.write(b" ")
    answers = own_comparison / "models" / "histogram" / "holdout.csv"
    whole = answers.read_bytes()
    answers.write_bytes(whole.replace(b"0", b"1", 1))
    found = compare(small_data.images, own_comparison, compared.options, known=KNOWN)
    rows = {row["system"]: row for row in found.rows}
    assert rows["model-2"]["facts"]["training"] != compared.rows()["model-2"]["facts"]["training"]
    assert rows["histogram"]["facts"] == compared.rows()["histogram"]["facts"]
    assert answers.read_bytes() == whole
    assert [row["accuracy"] for row in found.rows] == [row["accuracy"] for row in compared.found.rows]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"published": True}, "holds a comparison with as_published False there, True now; name another"),
        ({"search": True}, "search False there, True now"),
        ({"backbone": None}, "backbone 'tiny' there, None now"),
    ],
)
def test_other_settings_are_refused(compared, own_comparison, small_data, change, message):
    """What differs is named, and nothing is touched."""
    record = (own_comparison / "compare.json").read_bytes()
    with pytest.raises(OtherRunError, match=message):
        compare(small_data.images, own_comparison, replace(compared.options, **change), known=KNOWN)
    assert (own_comparison / "compare.json").read_bytes() == record


def test_other_data_are_refused(compared, own_comparison, own_data, read_of):
    """Other labels at once, images with other bytes once they are read."""
    asked = replace(compared.options, run=replace(compared.options.run, read=read_of(own_data)))
    (own_data.images / "1.png").write_bytes((own_data.images / "3.png").read_bytes())
    with pytest.raises(OtherRunError, match="images whose files were changed since"):
        compare(own_data.images, own_comparison, asked, known=KNOWN)
    write_labels(own_data.folder / "noisy.csv", range(240), own_data.truth)
    with pytest.raises(OtherRunError, match="other images or labels"):
        compare(own_data.images, own_comparison, asked, known=KNOWN)


def test_a_run_with_other_settings_is_refused(compared, finished, small_data, own_run):
    """The run in the folder would be the recipe assay; without assay it does not matter."""
    asked = replace(compared.options, run=replace(compared.options.run, threshold=0.9))
    with pytest.raises(OtherRunError, match=r"holds a run with threshold 0.8 there, 0.9 now"):
        compare(small_data.images, own_run, asked, known=KNOWN)
    assert not (own_run / "compare.json").exists()


def test_a_busy_folder_is_refused(compared, own_comparison, small_data):
    """Two comparisons in one folder would mix."""
    with CompareFolder(own_comparison).lock(), pytest.raises(BusyError, match="another comparison"):
        compare(small_data.images, own_comparison, compared.options, known=KNOWN)


@pytest.mark.usefixtures("here")
def test_overwrite_starts_anew(compared, own_comparison, small_data):
    """With other settings, in the same folder: what was there is gone, the count of the seal too."""
    asked = replace(compared.options, systems=("model-2",), published=True)
    found = compare(small_data.images, own_comparison, asked, known=KNOWN, overwrite=True)
    assert found.rows[0]["published"]
    assert found.record["holdout_evaluations"] == 1
    assert not (own_comparison / "models" / "histogram").exists()
    assert found.rows[0]["facts"]["training"] != compared.rows()["model-2"]["facts"]["training"]
    # The run is another matter: assay was not asked for.
    assert (own_comparison / "run.json").exists()


@pytest.mark.parametrize("role", ["backbone", "student"])
def test_overwriting_waits_for_what_can_be_refused(compared, own_comparison, small_data, role):
    """A network that does not exist leaves the models as they were."""
    told = replace(compared.options.run, preset="balanced", **{role: "no-such-network"})
    asked = replace(compared.options, run=told)
    before = times_of(own_comparison)
    with pytest.raises(UsageError, match="no-such-network"):
        compare(small_data.images, own_comparison, asked, known=KNOWN, overwrite=True)
    assert times_of(own_comparison) == before
