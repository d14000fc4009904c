"""One review in progress: what is shown next, what is counted, what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from assay.data.decisions import NO_CLASS, DecisionRequest, Stale
from assay.errors import DataError
from assay.review.pages import export
from assay.review.session import ReviewSession, reasons
from assay.types import UNKNOWN


def decide(session, row, label, revision=0, client="one"):
    (found,) = session.decide([(row, label, revision)], client=client)
    return found


def reopened(session, run):
    return ReviewSession(run, session.store, session.order, session.neighbours, "mia")


def test_images_come_in_order_and_round_again(session):
    """A reviewed image leaves the queue; after the last image come those passed over, until none is left."""
    order = session.order.rows.tolist()
    assert session.first() == order[0] + 1
    assert session.next_after(order[0]) == order[1] + 1
    decide(session, order[1], 0)
    decide(session, order[0], None)
    assert session.first() == session.next_after(order[0]) == order[2] + 1
    assert session.next_after(order[-1]) == order[2] + 1
    for row in order[2:]:
        decide(session, row, 0)
    assert (session.next_after(order[0]), session.card(order[3]).next) == (None, None)
    assert session.first() == order[0] + 1


def test_undo_keeps_later_decisions_of_others(session):
    """Such an image is reported once, counts as one of the page, and is reported again if decided again."""
    before, first, second, third = session.order.rows[:4].tolist()
    decide(session, before, 0)
    session.decide([(row, 0, 0) for row in (first, second, third)], client="one")
    decide(session, second, 1, 1, client="two")
    found = session.undo("one", 3)
    assert [item - 1 for item, _ in found] == [third, second, first]
    assert [isinstance(outcome, Stale) for _, outcome in found] == [False, True, False]
    assert (session.state(before).label, session.state(second).label) == ("ash", "birch")
    decide(session, second, 0, 2)
    decide(session, second, 1, 3, client="two")
    ((item, outcome),) = session.undo("one")
    assert (item, isinstance(outcome, Stale)) == (second + 1, True)
    ((item, outcome),) = session.undo("one")
    assert (item, outcome.kind) == (before + 1, "undo")
    # Once the other decision is undone, the own one below it can be undone too.
    session.undo("two")
    assert session.undo("one")[0][0] == second + 1


def test_images_are_found_by_number_and_name(session):
    """The exact name before a part of it; nothing else is a match."""
    assert [session.find(text) for text in ("7", "6.png", "16", "39.p", "0")] == [7, 7, 16, 40, 1]
    assert [session.find(text) for text in ("41.png", "", "x", "9" * 30, "-1")] == [None] * 5


def test_the_grid_has_one_proposed_class(session):
    """Images that are not reviewed, in the order of the queue, and how many each class has."""
    cards, counts = session.grid(1)
    expected = [row + 1 for row in session.order.rows.tolist() if row % 3 == 1]
    assert [card.item for card in cards] == expected
    assert (counts[1], sum(counts)) == (len(expected), 36)
    decide(session, expected[0] - 1, 1)
    assert session.grid(1)[1][1] == len(expected) - 1


def test_progress_counts_wrong_labels(session):
    """And the corrections to expect; decisions that a later run was trained on are not counted again."""
    rows = session.order.rows[:4].tolist()
    labels = [row % 3 for row in rows[:2]] + [(rows[2] + 1) % 3]
    for row, label in zip(rows[:3], labels, strict=True):
        decide(session, row, label)
    decide(session, rows[3], None)
    progress = session.progress()
    assert (progress.decided, progress.skipped, progress.total) == (3, 1, 36)
    wrong = sum(session.run.noisy[row] != label for row, label in zip(rows, labels, strict=False))
    assert (progress.noisy_wrong, progress.proposed_wrong) == (wrong, 1)
    left = session.order.rows[4:]
    expected = float(np.sum(1 - session.run.confidence[left]))
    assert progress.summary() == (
        f"3 of 36 decided, 1 skipped; wrong: {wrong} noisy labels, 1 proposed label. "
        f"About {expected:.0f} of the next {len(left)} proposed labels are wrong."
    )
    trusted = session.run.trusted.copy()
    trusted[rows[:2]] = session.run.proposed[rows[:2]]
    later = reopened(session, replace(session.run, trusted=trusted)).progress()
    assert (later.decided, later.total) == (1, 34)


def test_the_estimate_is_of_the_random_sample(session):
    """From ten images on, and only of those before the first that is not reviewed."""
    sample = session.order.sample.tolist()
    for row in sample[:9]:
        decide(session, row, row % 3)
    assert session.progress().estimate() == ""
    for row in (*sample[9:12], *sample[13:20]):
        decide(session, row, (row % 3 + (row in sample[13:])) % 3)
    assert session.progress().estimate() == (
        "Random sample: 12 of 12 proposed labels are correct. Of all proposed labels: 76 to 100 % "
        "(95 % interval)."
    )
    decide(session, sample[12], None)
    assert session.progress().sample_size == 19


def test_reasons_are_in_words(session):
    """Probabilities of both labels, how often that error is made, and the labels of similar images."""
    row, run = 4, session.run
    sure = f"{100 * run.confidence[row]:.1f} %"
    assert reasons(run, row, [0, 1, 0]) == [
        f"The noisy label cedar is correct with probability 10.0 %, the proposed label birch with {sure}.",
        "Of the images of birch, 10.0 % are labelled cedar.",
        "Labels of the 3 most similar trusted images: 2 × ash, 1 × birch.",
    ]
    (word,) = reasons(run, 5, [])
    assert word.startswith("The noisy label cedar is correct with probability ")
    doubtful = replace(run, confidence=np.full(40, 0.31), noisy=np.where(np.arange(40) == 6, -1, run.noisy))
    assert reasons(doubtful, 5, []) == [
        "The noisy label cedar is the most probable class, with probability only 31.0 %."
    ]
    assert reasons(doubtful, 6, []) == ["There is no noisy label. ash is correct with probability 31.0 %."]
    assert reasons(run, 3, []) == []
    # Files of a run are rounded, so nothing is certain.
    for share, words in ((0.0, "less than 0.1 %"), (0.5, "50.0 %"), (1.0, "more than 99.9 %")):
        assert (
            f"probability {words}, the" in reasons(replace(run, label_quality=np.full(40, share)), row, [])[0]
        )


def test_decisions_on_missing_images_are_kept(session):
    """After a new run on fewer images they are not counted, and stay in the file."""
    session.store.decide([DecisionRequest("gone.png", "ash", None, 0)], who="mia", client="one")
    later = reopened(session, session.run)
    assert (later.progress().decided, later.first()) == (0, session.order.rows[0] + 1)
    assert later.undo("one")[0][0] == 0


def test_decisions_of_other_classes_are_refused(session):
    """They are of another run that was in the folder before."""
    session.store.decide([DecisionRequest("5.png", "zebra", None, 0)], who="mia", client="one")
    message = "'?5.png'? was decided to be '?zebra'?, which is no class of this run; .* move the file away"
    with pytest.raises(DataError, match=message):
        reopened(session, session.run)


def test_an_image_may_belong_to_no_class(session):
    """It counts as decided, its labels as wrong, and the exports have it without a label."""
    decide(session, 4, UNKNOWN)
    assert session.card(4).decided == "belongs to no class"
    progress = session.progress()
    assert (progress.decided, progress.noisy_wrong, progress.proposed_wrong) == (1, 1, 1)
    assert b"\n4.png," not in export(session, "corrected.csv")
    assert b"4.png,,no_class,cedar," in export(session, "decisions.csv")
    later = reopened(session, session.run)
    assert later.state(4).label == NO_CLASS
    actions = tuple("outlier" if row == 5 else action for row, action in enumerate(session.run.actions))
    found = reasons(replace(session.run, actions=actions, outlier_score=np.full(40, 1.234)), 5, [])
    assert found[0] == "This image may belong to no class: its outlier score is 1.23."
