import pytest

from assay.notebook.history import draw_history
from assay.notebook.sequential import Epoch

TRUSTED = [Epoch("trusted", i, 1.6 - 0.1 * i, 0.4 + 0.05 * i, 3.0) for i in range(1, 11)]
KEPT = [Epoch("trusted and kept", i, 1.2 - 0.1 * i, 0.5 + 0.04 * i, 7.0) for i in range(1, 7)]


def test_two_stages_are_told_apart_and_put_in_words(seen):
    """Both stages are named in the picture; the description says where each began and ended."""
    found = seen(draw_history([*TRUSTED, *KEPT], title="CNN 2"))
    assert found.title == "CNN 2"
    assert found.texts.count("trusted") == found.texts.count("trusted and kept") == 2
    assert found.description == (
        "Stage trusted, 10 epochs: loss 1.500 to 0.600, accuracy 45.0 % to 90.0 %. "
        "Stage trusted and kept, 6 epochs: loss 1.100 to 0.600, accuracy 54.0 % to 74.0 %."
    )


def test_one_stage_needs_no_legend(seen):
    """With one stage the axes say all."""
    texts = seen(draw_history(TRUSTED)).texts
    assert "trusted" not in texts
    assert {"epoch", "loss", "accuracy on what it learns from, %"} <= set(texts)


def test_a_single_epoch_is_drawn(seen):
    """One epoch is a point, at a whole number."""
    assert "1" in seen(draw_history(TRUSTED[:1])).texts


def test_a_strange_stage_is_text(seen):
    """A stage whose name looks like mathematics or mark-up is shown as it is."""
    stages = [Epoch("$x^", 1, 1.0, 0.5, 1.0), Epoch("<b>", 1, 1.0, 0.5, 1.0)]
    assert {"$x^", "<b>"} <= set(seen(draw_history(stages)).texts)


def test_no_epoch_is_refused():
    """A model that was not trained by epochs has no history to draw."""
    with pytest.raises(ValueError, match="expected at least one epoch to draw, got none"):
        draw_history([])


def test_the_same_history_has_the_same_bytes():
    """A picture drawn twice is one file."""
    assert draw_history(TRUSTED) == draw_history(TRUSTED)
