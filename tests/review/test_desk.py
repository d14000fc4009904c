"""One review in progress: what is shown next, what is found, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from review_runs import write_run

from assay.data.decisions import Stale
from assay.errors import DataError, UsageError
from assay.review.desk import Desk
from assay.review.neighbours import Neighbour
from assay.review.run import read_review_run
from assay.review.why import locked, reasons


def decide(desk, row, label, revision=0):
    (found,) = desk.decide([(row, label, revision)], client="one")
    return found


def test_it_begins_with_the_first_and_goes_on_in_order(desk):
    """Each decision takes an image out of the queue; the others stay in their order."""
    order = (desk.order.rows + 1).tolist()
    assert desk.first() == order[0]
    assert desk.following(order[0] - 1, 3) == order[1:4]
    decide(desk, order[1] - 1, 0)
    assert desk.following(order[0] - 1, 3) == order[2:5]
    assert desk.first() == order[0]
    decide(desk, order[0] - 1, None)
    assert desk.first() == order[2]


def test_after_the_last_come_those_that_were_passed_over(desk):
    """The queue goes round until nobody is left."""
    order = (desk.order.rows + 1).tolist()
    assert desk.following(order[-1] - 1, 2) == order[:2]
    for item in order:
        decide(desk, item - 1, 0)
    assert desk.following(order[0] - 1, 2) == []
    assert desk.first() == order[0]
    assert desk.card(order[3] - 1).next is None


def test_an_undone_image_waits_again(desk):
    """It comes back at its place in the order."""
    row = int(desk.order.rows[0])
    decide(desk, row, 0)
    ((item, _),) = desk.undo("one")
    assert item == row + 1 == desk.first()
    assert desk.undo("one") == []


def test_several_are_undone_at_once(desk):
    """Newest first, and no more than there are."""
    rows = desk.order.rows[:3].tolist()
    desk.decide([(row, 0, 0) for row in rows], client="one")
    assert [item - 1 for item, _ in desk.undo("one", 10)] == rows[::-1]


def test_undo_goes_on_before_what_somebody_else_changed(desk):
    """The window is told once; the other's word stays."""
    mine, theirs = desk.order.rows[:2].tolist()
    decide(desk, mine, 0)
    decide(desk, theirs, 0)
    desk.decide([(theirs, 1, 1)], client="two")
    ((item, outcome),) = desk.undo("one")
    assert item == theirs + 1
    assert isinstance(outcome, Stale)
    ((item, outcome),) = desk.undo("one")
    assert (item, outcome.kind) == (mine + 1, "undo")
    assert desk.undo("one") == []
    assert desk.state(theirs).label == "birch"
    desk.undo("two")
    assert desk.undo("one")[0][0] == theirs + 1


def test_what_somebody_else_changed_counts_among_several(desk):
    """One undo for a page takes back the others of that page, and none from before it."""
    before, first, second, third = desk.order.rows[:4].tolist()
    decide(desk, before, 0)
    desk.decide([(row, 0, 0) for row in (first, second, third)], client="one")
    desk.decide([(second, 1, 1)], client="two")
    found = desk.undo("one", 3)
    assert [item - 1 for item, _ in found] == [third, second, first]
    assert [isinstance(outcome, Stale) for _, outcome in found] == [False, True, False]
    assert (desk.state(before).is_decided, desk.state(second).label) == (True, "birch")
    # Decided anew and changed anew, it is told anew.
    desk.decide([(second, 0, 2)], client="one")
    desk.decide([(second, 1, 3)], client="two")
    ((item, outcome),) = desk.undo("one")
    assert (item, isinstance(outcome, Stale)) == (second + 1, True)


def test_a_card_says_all(desk):
    """Given, proposed, how sure, what a person said, and where it goes from here."""
    row = int(desk.order.rows[5])
    card = desk.card(row)
    assert (card.item, card.name) == (row + 1, f"{row}.png")
    assert card.proposed == desk.run.title(row % 3)
    assert card.next == int(desk.order.rows[6]) + 1
    assert card.previous == int(desk.order.rows[4]) + 1
    assert (card.decided, card.locked) == ("", "")
    decide(desk, row, 1)
    assert desk.card(row).decided == "birch"
    decide(desk, row, None, revision=1)
    assert desk.card(row).decided == "skipped"


@pytest.mark.parametrize(
    ("row", "words"),
    [(0, "has a trusted label"), (2, "sealed holdout"), (3, "could not be used: truncated")],
)
def test_what_is_known_already_cannot_be_decided(desk, row, words):
    """Trusted and held out images can be looked at; nothing is written, not even of the others."""
    assert words in locked(desk.run, row)
    with pytest.raises(UsageError, match=words):
        desk.decide([(10, 0, 0), (row, 0, 0)], client="one")
    assert desk.store.rows() == []


@pytest.mark.parametrize("label", [3, 10**6])
def test_a_class_that_there_is_not_is_refused(desk, label):
    """Class indices go from 0."""
    with pytest.raises(UsageError, match=f"expected a class from 0 to 2, got {label}"):
        decide(desk, 10, label)


def test_an_image_twice_in_one_request_is_stale(desk):
    """The second time it has not seen the first."""
    first, second = desk.decide([(10, 0, 0), (10, 1, 0)], client="one")
    assert first.after == "ash"
    assert isinstance(second, Stale)


def test_images_are_found_by_number_and_name(desk):
    """The exact name before a part of it; nothing else is a match."""
    assert [desk.find(text) for text in ("7", "6.png", "16", "39.p", "0")] == [7, 7, 16, 40, 1]
    assert [desk.find(text) for text in ("41.png", "", "x", "9" * 30, "-1")] == [None] * 5


def test_the_grid_has_one_proposed_class(desk):
    """Those that nobody looked at, in the order of the queue, and the number of all."""
    cards, waiting = desk.grid(1)
    expected = [row + 1 for row in desk.order.rows.tolist() if row % 3 == 1]
    assert [card.item for card in cards] == expected
    assert waiting == len(expected) == desk.classes_waiting()[1]
    decide(desk, expected[0] - 1, 1)
    assert desk.grid(1)[1] == waiting - 1


def test_progress_counts_what_was_found(desk):
    """Given and proposed labels that were wrong, and the gain that further looks would bring."""
    rows = desk.order.rows[:4].tolist()
    for row in rows[:3]:
        decide(desk, row, (row % 3 + (row == rows[2])) % 3)
    decide(desk, rows[3], None)
    progress = desk.progress()
    assert (progress.decided, progress.skipped, progress.total) == (3, 1, 36)
    assert progress.proposed_wrong == 1
    wrong = sum(row % 4 == 0 for row in rows[:2]) + (
        rows[2] % 4 != 0 or (rows[2] + 1) % 3 != (rows[2] % 3 + 1) % 3
    )
    assert progress.given_wrong == wrong
    left = desk.order.rows[4:]
    assert progress.expected_gain == pytest.approx(np.sum(1 - desk.run.confidence[left]))
    assert progress.words() == (
        f"3 of 36 decided, 1 skipped; {wrong} given labels were wrong, 1 proposed ones. "
        f"The next {len(left)} would probably correct {progress.expected_gain:.0f} proposed labels."
    )


def test_what_a_later_run_was_told_is_not_counted(desk):
    """Decisions that it learned from are trusted there, and no longer open."""
    rows = desk.order.rows[:3].tolist()
    for row in rows:
        decide(desk, row, row % 3)
    trusted = desk.run.trusted.copy()
    trusted[rows[:2]] = desk.run.proposed[rows[:2]]
    later = Desk(replace(desk.run, trusted=trusted), desk.store, desk.order, desk.neighbours, "mia")
    progress = later.progress()
    assert (progress.decided, progress.total) == (1, 34)


def test_the_estimate_is_of_the_random_part_alone(desk):
    """Only images of the sample before its first gap count, however many others were looked at."""
    sample = desk.order.sample.tolist()
    for row in (*sample[:12], *sample[13:20]):
        decide(desk, row, (row % 3 + (row in sample[13:])) % 3)
    progress = desk.progress()
    assert (progress.sample_size, progress.sample_right) == (12, 12)
    assert (
        progress.estimate() == "In the random part 12 of 12 proposed labels were right: 76 to 100 % of all."
    )
    decide(desk, sample[12], None)
    assert desk.progress().sample_size == 19


def test_of_a_few_images_nothing_is_estimated(desk):
    """Nine of the random part are too few for a share."""
    sample = desk.order.sample.tolist()
    for row in sample[:9]:
        assert desk.progress().estimate() == ""
        decide(desk, row, row % 3)
    assert desk.progress().estimate() == ""
    decide(desk, sample[9], sample[9] % 3)
    assert desk.progress().estimate().startswith("In the random part 10 of 10 ")


def test_why_an_image_is_shown_is_said_in_words(desk):
    """What the run believes, how often that mistake is made, and what looks alike."""
    row = 4
    near = [Neighbour(0, 0.9), Neighbour(1, 0.8), Neighbour(0, 0.7)]
    sure = f"{100 * desk.run.confidence[row]:.1f} %"
    assert reasons(desk.run, row, near) == [
        f"The label cedar is right with 10.0 %, birch would be with {sure}.",
        "Of the images that are birch, 10.0 % were labelled cedar.",
        "The 3 trusted images most like it are: 2 × ash, 1 × birch.",
    ]
    assert reasons(desk.run, 5, [])[0].startswith("The label cedar is probably right: ")
    doubtful = replace(desk.run, confidence=np.full(40, 0.31))
    assert reasons(doubtful, 5, []) == ["The label cedar is the most probable one, but only with 31.0 %."]
    assert reasons(desk.run, 3, []) == []


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "less than 0.1 %"), (0.0009, "less than 0.1 %"), (0.5, "50.0 %"), (1.0, "more than 99.9 %")],
)
def test_nothing_is_called_certain(desk, share, words):
    """A run's files are rounded, so 0 and 1 are almost 0 and almost 1."""
    run = replace(desk.run, p_given=np.full(40, share), confidence=np.full(40, 0.5))
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
    from assay.review.desk import Desk
    from assay.review.neighbours import Neighbours
    from assay.review.queue import order_images

    run = read_review_run(write_run(tmp_path / "out", images=images))
    store = open_decisions(tmp_path / "out" / "decisions.sqlite")
    store.decide("gone.png", "ash", given=None, revision=0, who="mia", client="one")
    order = order_images(run.given, run.proposed, run.confidence, run.is_open, strategy="mixed")
    desk = Desk(run, store, order, Neighbours(run, None), "mia")
    assert desk.progress().decided == 0
    assert desk.first() == order.rows[0] + 1
    assert desk.undo("one")[0][0] == 0
    store.close()


def test_decisions_of_other_classes_are_refused(desk):
    """A run of other classes was in the folder before: its labels are none of this one's."""
    desk.store.decide("5.png", "zebra", given=None, revision=0, who="mia", client="one")
    message = "'5.png' was decided to be 'zebra', which is no class of this run; .* move the file away"
    with pytest.raises(DataError, match=message):
        Desk(desk.run, desk.store, desk.order, desk.neighbours, "mia")
    desk.store.undo(who="mia", client="one")
    Desk(desk.run, desk.store, desk.order, desk.neighbours, "mia")
