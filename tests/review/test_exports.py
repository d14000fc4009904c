"""A label for every image, and where it is from."""

from dataclasses import replace

import numpy as np

from assay.pipeline.outputs import DECIDED
from assay.review.exports import corrected_columns, corrected_labels


def decide(session, row, label):
    session.decide([(row, label, 0)], client="one")


def test_a_trusted_label_goes_before_an_older_decision(session):
    """It came later, and was checked; what the run learned from as a decision stays one."""
    for row in (4, 5, 6):
        decide(session, row, 0)
    trusted, held = session.run.trusted.copy(), {**session.run.held_out_labels, 6: 2}
    trusted[[4, 5]] = 1
    reasons = tuple(DECIDED if row == 5 else reason for row, reason in enumerate(session.run.reasons))
    proposed = np.where(np.isin(np.arange(40), (4, 5)), 1, session.run.proposed)
    actions = tuple("trusted" if row in (4, 5) else action for row, action in enumerate(session.run.actions))
    run = replace(
        session.run,
        trusted=trusted,
        held_out_labels=held,
        reasons=reasons,
        proposed=proposed,
        actions=actions,
    )
    _, labels, sources = corrected_columns(replace(session, run=run))
    assert [(labels[row], sources[row]) for row in (4, 5, 6)] == [
        ("birch", "trusted"),
        ("ash", "decided"),
        ("cedar", "trusted"),
    ]


def test_corrected_labels_have_their_source(session):
    """A person's word before the run's; where the run is unsure the given label stays."""
    decide(session, 4, 0)
    names, labels, sources = corrected_columns(session)
    assert names == list(session.run.names)
    assert (labels[4], sources[4]) == ("ash", "decided")
    assert (labels[0], sources[0]) == ("ash", "trusted")
    assert (labels[2], sources[2]) == ("cedar", "trusted")
    assert (labels[3], sources[3]) == ("", "skipped")
    unsure = session.run.actions.index("unsure")
    assert labels[unsure] == session.run.label(int(session.run.noisy[unsure])) or unsure == 4
    assert "3.png" not in corrected_labels(session)
