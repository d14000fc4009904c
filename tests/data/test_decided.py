"""Decisions of a review as labels of a data set."""

import numpy as np
import pytest

from assay.data.dataset import Dataset, Skipped
from assay.data.decided import with_decisions
from assay.data.decision_store import open_decisions
from assay.errors import DataError, LabelError, TableError
from assay.types import UNKNOWN

NAMES = ("a.png", "b.png", "c.png", "d.png")


class Nothing:
    def read(self, _):
        return Skipped("missing_image")


@pytest.fixture
def dataset():
    """Four images of two classes; the first is trusted."""
    noisy, trusted = np.array([0, 1, 1, -1]), np.array([1, -1, -1, -1])
    return Dataset(NAMES, Nothing(), ("cat", "dog"), noisy, trusted)


def decisions(tmp_path, rows: str):
    (tmp_path / "d.csv").write_text(f"file_name,label\n{rows}")
    return tmp_path / "d.csv"


def test_decisions_teach_beside_the_trusted_labels(dataset, tmp_path):
    """They are known, and nothing else changes: neither given nor trusted labels."""
    found = with_decisions(dataset, decisions(tmp_path, "d.png,dog\nb.png,cat\nc.png,\n"))
    assert found.decided == {1: 0, 3: 1}
    assert found.known.tolist() == [1, 0, UNKNOWN, 1]
    assert found.trusted.tolist() == dataset.trusted.tolist()
    assert found.fingerprint() == dataset.fingerprint()
    assert found.notes == ("d.csv: decisions, learned from as trusted labels; no figure counts them: 2",)


def test_a_trusted_label_stays(dataset, tmp_path):
    """A decision of its image, or of one that is not here, is counted and left out."""
    found = with_decisions(dataset, decisions(tmp_path, "a.png,cat\nb.png,cat\ngone.png,dog\n"))
    assert found.decided == {1: 0}
    assert found.notes[1:] == (
        "d.csv: decisions of images with a trusted label, which stays: 1",
        "d.csv: decisions of images that are not here: 1",
    )


def test_a_database_will_do(dataset, tmp_path):
    """As the review page left it; what was undone is no decision."""
    store = open_decisions(tmp_path / "decisions.sqlite")
    for name in ("b.png", "c.png"):
        store.decide(name, "dog", noisy=None, revision=0, who="mia", client="one")
    store.undo(who="mia", client="one")
    store.close()
    assert with_decisions(dataset, store.path).decided == {1: 1}


def test_no_decision_is_none(dataset, tmp_path):
    """An empty file changes nothing, and has no digest."""
    found = with_decisions(dataset, decisions(tmp_path, ""))
    assert (found.decided, found.decisions_digest(), found.notes) == ({}, None, ())


def test_the_digest_tells_decisions_apart(dataset, tmp_path):
    """The same decisions in another order have the same digest, others another."""
    rows = ["b.png,cat\nc.png,dog\n", "c.png,dog\nb.png,cat\n", "b.png,dog\nc.png,dog\n"]
    one, same, other = (with_decisions(dataset, decisions(tmp_path, row)).decisions_digest() for row in rows)
    assert one == same != other


def test_what_does_not_fit_is_refused(dataset, tmp_path):
    """A class that there is not, decisions of other images, a file of another kind."""
    with pytest.raises(
        LabelError, match=r"d\.csv: 'b\.png' was decided to be 'cow', which is no class .*'cat'"
    ):
        with_decisions(dataset, decisions(tmp_path, "b.png,cow\n"))
    with pytest.raises(DataError, match=r"none of its 1 decisions is of an image of this data set.*'x\.png'"):
        with_decisions(dataset, decisions(tmp_path, "x.png,cat\n"))
    (tmp_path / "d.csv").write_text("path,label\n1,2\n")
    with pytest.raises(TableError, match="expected decisions with the columns file_name and label"):
        with_decisions(dataset, tmp_path / "d.csv")
