import pytest

from assay.data.census import ScanReport, is_hidden
from assay.data.dataset import Skipped


@pytest.mark.parametrize("name", [".git", "._a.jpg", "__MACOSX", "Thumbs.db", "desktop.ini"])
def test_what_systems_leave_behind_is_hidden(name):
    """Fault 28: names that no person chose."""
    assert is_hidden(name)
    assert not is_hidden("x" + name)


def test_rows_are_in_natural_order_with_their_faults():
    """The index of a fault is that of its name after sorting."""
    census, fault = ScanReport(), Skipped("missing", "gone")
    census.add("10.png")
    census.add("9.png", fault)
    census.add("1.png")
    names, skipped, order = census.rows()
    assert (names, skipped, order.tolist()) == (("1.png", "9.png", "10.png"), {1: fault}, [2, 1, 0])


def test_notes_count_everything():
    """One line for each kind of thing, in a fixed order, with no more than three names."""
    census = ScanReport(hidden=1200, unlisted=["a/", "b/", "c/", "d/", "e/"])
    census.ignored.update([".txt", ".csv", ".csv", ""])
    census.links.update(["outside_root", "outside_root", "missing"])
    for name in ("B.png", "b.png", "a.png", "A.png"):
        census.add(name)
    assert census.notes() == (
        "ignored 1,200 hidden entries",
        "ignored 1 file without an extension: no images",
        "ignored 2 files named *.csv: no images",
        "ignored 1 file named *.txt: no images",
        "did not follow 1 link: missing",
        "did not follow 2 links: outside_root (links that leave the folder: --follow-symlinks)",
        "warning: could not list 'a/', 'b/', 'c/' and 2 more: the images there are missing",
        "warning: names that differ only in case: 'A.png', 'a.png', and 1 more groups of such names",
    )


def test_many_endings_are_counted_together():
    """Numbered ones, as medical pictures have; the most frequent are named."""
    census = ScanReport()
    census.ignored.update([".txt"] * 5 + [f".{number:03d}" for number in range(100)])
    notes = census.notes()
    assert len(notes) == 11
    assert "ignored 5 files named *.txt: no images" in notes
    assert notes[-1] == "ignored 91 files of other endings: no images"


def test_nothing_found_means_no_notes():
    """An empty place has nothing to say."""
    names, skipped, order = ScanReport().rows()
    assert (ScanReport().notes(), names, skipped, order.size) == ((), (), {}, 0)


@pytest.mark.parametrize("added", [("1.png", "2.png", "10.png"), ("10.png", "2.png", "1.png")])
def test_rows_that_come_in_order_are_not_sorted_again(added, monkeypatch):
    """A million keys are large, and zip files are in order as a rule."""
    census, sorts = ScanReport(), []
    monkeypatch.setattr(ScanReport, "_sorted", lambda _: sorts.append(1) or [2, 1, 0])
    for name in added:
        census.add(name)
    assert census.rows().names == ("1.png", "2.png", "10.png")
    assert len(sorts) == (added[0] != "1.png")
