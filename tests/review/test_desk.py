"""One review in progress: what is shown next, what is found, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from review_runs import write_run

from assay.data.decision_store import Stale
from assay.errors import DataError, UsageError
from assay.review.neighbours import Neighbour
from assay.review.run import read_review_run
from assay.review.session import ReviewSession
from assay.review.why import locked, reasons


def decide(session, row, label, revision=0):
    (found,) = session.decide([(row, label, revision)], client="one")
    return found


def test_it_begins_with_the_first_and_goes_on_in_order(session):
    """Each decision takes an image out of the queue; the others stay in their order."""
    order = (session.order.rows + 1).tolist()
    assert session.first() == order[0]
    assert session.following(order[0] - 1, 3) == order[1:4]
    decide(session, order[1] - 1, 0)
    assert session.following(order[0] - 1, 3) == order[2:5]
    assert session.first() == order[0]
    decide(session, order[0] - 1, None)
    assert session.first() == order[2]


def test_after_the_last_come_those_that_were_passed_over(session):
    """The queue goes round until nobody is left."""
    order = (session.order.rows + 1).tolist()
    assert session.following(order[-1] - 1, 2) == order[:2]
    for item in order:
        decide(session, item - 1, 0)
    assert session.following(order[0] - 1, 2) == []
    assert session.first() == order[0]
    assert session.card(order[3] - 1).next is None


def test_an_undone_image_waits_again(session):
    """It comes back at its place in the order."""
    row = int(session.order.rows[0])
    decide(session, row, 0)
    ((item, _),) = session.undo("one")
    assert item == row + 1 == session.first()
    assert session.undo("one") == []


def test_several_are_undone_at_once(session):
    """Newest first, and no more than there are."""
    rows = session.order.rows[:3].tolist()
    session.decide([(row, 0, 0) for row in rows], client="one")
    assert [item - 1 for item, _ in session.undo("one", 10)] == rows[::-1]


def test_undo_goes_on_before_what_somebody_else_changed(session):
    """The window is told once; the other's word stays."""
    mine, theirs = session.order.rows[:2].tolist()
    decide(session, mine, 0)
    decide(session, theirs, 0)
    session.decide([(theirs, 1, 1)], client="two")
    ((item, outcome),) = session.undo("one")
    assert item == theirs + 1
    assert isinstance(outcome, Stale)
    ((item, outcome),) = session.undo("one")
    assert (item, outcome.kind) == (mine + 1, "undo")
    assert session.undo("one") == []
    assert session.state(theirs).label == "birch"
    session.undo("two")
    assert session.undo("one")[0][0] == theirs + 1


def test_what_somebody_else_changed_counts_among_several(session):
    """One undo for a page takes back the others of that page, and none from before it."""
    before, first, second, third = session.order.rows[:4].tolist()
    decide(session, before, 0)
    session.decide([(row, 0, 0) for row in (first, second, third)], client="one")
    session.decide([(second, 1, 1)], client="two")
    found = session.undo("one", 3)
    assert [item - 1 for item, _ in found] == [third, second, first]
    assert [isinstance(outcome, Stale) for _, outcome in found] == [False, True, False]
    assert (session.state(before).is_decided, session.state(second).label) == (True, "birch")
    # Decided anew and changed anew, it is told anew.
    session.decide([(second, 0, 2)], client="one")
    session.decide([(second, 1, 3)], client="two")
    ((item, outcome),) = session.undo("one")
    assert (item, isinstance(outcome, Stale)) == (second + 1, True)


def test_a_card_says_all(session):
    """Given, proposed, how sure, what a person said, and where it goes from here."""
    row = int(session.order.rows[5])
    card = session.card(row)
    assert (card.item, card.name) == (row + 1, f"{row}.png")
    assert card.proposed == session.run.title(row % 3)
    assert card.next == int(session.order.rows[6]) + 1
    assert card.previous == int(session.order.rows[4]) + 1
    assert (card.decided, card.locked) == ("", "")
    decide(session, row, 1)
    assert session.card(row).decided == "birch"
    decide(session, row, None, revision=1)
    assert session.card(row).decided == "skipped"


@pytest.mark.parametrize(
    ("row", "words"),
    [(0, "has a trusted label"), (2, "sealed holdout"), (3, "could not be used: truncated")],
)
def test_what_is_known_already_cannot_be_decided(session, row, words):
    """Trusted and held out images can be looked at; nothing is written, not even of the others."""
    assert words in locked(session.run, row)
    with pytest.raises(UsageError, match=words):
        session.decide([(10, 0, 0), (row, 0, 0)], client="one")
    assert session.store.rows() == []


@pytest.mark.parametrize("label", [3, 10**6])
def test_a_class_that_there_is_not_is_refused(session, label):
    """Class indices go from 0."""
    with pytest.raises(UsageError, match=f"expected a class from 0 to 2, got {label}"):
        decide(session, 10, label)


def test_an_image_twice_in_one_request_is_stale(session):
    """The second time it has not seen the first."""
    first, second = session.decide([(10, 0, 0), (10, 1, 0)], client="one")
    assert first.after == "ash"
    assert isinstance(second, Stale)


def test_images_are_found_by_number_and_name(session):
    """The exact name before a part of it; nothing else is a match."""
    assert [session.find(text) for text in ("7", "6.png", "16", "39.p", "0")] == [7, 7, 16, 40, 1]
    assert [session.find(text) for text in ("41.png", "", "x", "9" * 30, "-1")] == [None] * 5


def test_the_grid_has_one_proposed_class(session):
    """Those that nobody looked at, in the order of the queue, and the number of all."""
    cards, waiting = session.grid(1)
    expected = [row + 1 for row in session.order.rows.tolist() if row % 3 == 1]
    assert [card.item for card in cards] == expected
    assert waiting == len(expected) == session.classes_waiting()[1]
    decide(session, expected[0] - 1, 1)
    assert session.grid(1)[1] == waiting - 1


def test_progress_counts_what_was_found(session):
    """Given and proposed labels that were wrong, and the gain that further looks would bring."""
    rows = session.order.rows[:4].tolist()
    for row in rows[:3]:
        decide(session, row, (row % 3 + (row == rows[2])) % 3)
    decide(session, rows[3], None)
    progress = session.progress()
    assert (progress.decided, progress.skipped, progress.total) == (3, 1, 36)
    assert progress.proposed_wrong == 1
    wrong = sum(row % 4 == 0 for row in rows[:2]) + (
        rows[2] % 4 != 0 or (rows[2] + 1) % 3 != (rows[2] % 3 + 1) % 3
    )
    assert progress.noisy_wrong == wrong
    left = session.order.rows[4:]
    assert progress.expected_gain == pytest.approx(np.sum(1 - session.run.confidence[left]))
    assert progress.words() == (
        f"3 of 36 decided, 1 skipped; {wrong} given labels were wrong, 1 proposed ones. "
        f"The next {len(left)} would probably correct {progress.expected_gain:.0f} proposed labels."
    )


def test_what_a_later_run_was_told_is_not_counted(session):
    """Decisions that it learned from are trusted there, and no longer open."""
    rows = session.order.rows[:3].tolist()
    for row in rows:
        decide(session, row, row % 3)
    trusted = session.run.trusted.copy()
    trusted[rows[:2]] = session.run.proposed[rows[:2]]
    later = ReviewSession(
        replace(session.run, trusted=trusted), session.store, session.order, session.neighbours, "mia"
    )
    progress = later.progress()
    assert (progress.decided, progress.total) == (1, 34)


def test_the_estimate_is_of_the_random_part_alone(session):
    """Only images of the sample before its first gap count, however many others were looked at."""
    sample = session.order.sample.tolist()
    for row in (*sample[:12], *sample[13:20]):
        decide(session, row, (row % 3 + (row in sample[13:])) % 3)
    progress = session.progress()
    assert (progress.sample_size, progress.sample_right) == (12, 12)
    assert (
        progress.estimate() == "In the random part 12 of 12 proposed labels were right: 76 to 100 % of all."
    )
    decide(session, sample[12], None)
    assert session.progress().sample_size == 19


def test_of_a_few_images_nothing_is_estimated(session):
    """Nine of the random part are too few for a share."""
    sample = session.order.sample.tolist()
    for row in sample[:9]:
        assert session.progress().estimate() == ""
        decide(session, row, row % 3)
    assert session.progress().estimate() == ""
    decide(session, sample[9], sample[9] % 3)
    assert session.progress().estimate().startswith("In the random part 10 of 10 ")


def test_why_an_image_is_shown_is_said_in_words(session):
    """What the run believes, how often that mistake is made, and what looks alike."""
    row = 4
    near = [Neighbour(0, 0.9), Neighbour(1, 0.8), Neighbour(0, 0.7)]
    sure = f"{100 * session.run.confidence[row]:.1f} %"
    assert reasons(session.run, row, near) == [
        f"The label cedar is right with 10.0 %, birch would be with {sure}.",
        "Of the images that are birch, 10.0 % were labelled cedar.",
        "The 3 trusted images most like it are: 2 × ash, 1 × birch.",
    ]
    assert reasons(session.run, 5, [])[0].startswith("The label cedar is probably right: ")
    doubtful = replace(session.run, confidence=np.full(40, 0.31))
    assert reasons(doubtful, 5, []) == ["The label cedar is the most probable one, but only with 31.0 %."]
    assert reasons(session.run, 3, []) == []


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "less than 0.1 %"), (0.0009, "less than 0.1 %"), (0.5, "50.0 %"), (1.0, "more than 99.9 %")],
)
def test_nothing_is_called_certain(session, share, words):
    """A run's files are rounded, so 0 and 1 are almost 0 and almost 1."""
    run = replace(session.run, label_quality=np.full(40, share), confidence=np.full(40, 0.5))
    assert reasons(run, 4, [])[0] == f"The label cedar is right with {words}, birch would be with 50.0 %."


def test_held_out_labels_of_another_run_are_refused(tmp_path, images):
    """A file that was put beside a run names images that it does not have."""
    folder = write_run(tmp_path / "out", images=images)
    held = folder / "holdout.csv"
    held.write_text(held.read_text().replace("2.png", "other.png"))
    with pytest.raises(DataError, match=r"holdout\.csv: 'other\.png' is not of this run; run it again$"):
        read_review_run(folder)


def test_decisions_on_images_that_are_gone_are_kept_aside(tmp_path, images):
    """After a new run on fewer images the page works, and the old rows are still in the file."""
    from assay.data.decision_store import open_decisions
    from assay.review.neighbours import Neighbours
    from assay.review.queue import order_images
    from assay.review.session import ReviewSession

    run = read_review_run(write_run(tmp_path / "out", images=images))
    store = open_decisions(tmp_path / "out" / "decisions.sqlite")
    store.decide("gone.png", "ash", noisy=None, revision=0, who="mia", client="one")
    order = order_images(run.noisy, run.proposed, run.confidence, run.is_open, strategy="mixed")
    session = ReviewSession(run, store, order, Neighbours(run, None), "mia")
    assert session.progress().decided == 0
    assert session.first() == order.rows[0] + 1
    assert session.undo("one")[0][0] == 0
    store.close()


def test_decisions_of_other_classes_are_refused(session):
    """A run of other classes was in the folder before: its labels are none of this one's."""
    session.store.decide("5.png", "zebra", noisy=None, revision=0, who="mia", client="one")
    message = "'5.png' was decided to be 'zebra', which is no class of this run; .* move the file away"
    with pytest.raises(DataError, match=message):
        ReviewSession(session.run, session.store, session.order, session.neighbours, "mia")
    session.store.undo(who="mia", client="one")
    ReviewSession(session.run, session.store, session.order, session.neighbours, "mia")
