"""The tests check types and shapes at every call, as jaxtyping's hook arranges."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from assay.data.tables import read_table
from assay.noise.transition import mixed_transition

NOISY = np.array([0, 1])


def test_a_wrong_shape_is_found():
    """Two images cannot have three predictions."""
    assert mixed_transition(NOISY, NOISY, np.full((2, 2), 0.5)).shape == (2, 2)
    with pytest.raises(TypeCheckError, match="pred_probs"):
        mixed_transition(NOISY, NOISY, np.full((3, 2), 0.5))


def test_a_wrong_type_is_found():
    """Also by functions that name no shape."""
    with pytest.raises(TypeError, match="violates type hint"):
        read_table(3)


def test_checks_can_be_left_out(without_shape_checks):
    """What users see is then what the code itself says."""
    with pytest.raises(ValueError, match="expected one length for all"):
        mixed_transition(NOISY, NOISY, np.full((3, 2), 0.5))
