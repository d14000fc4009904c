"""The type checker of the tests: beartype, as jaxtyping's import hook calls it."""

from collections.abc import Callable
from typing import Any

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep673Exception


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with its arguments, its result and their shapes checked at each call.

    beartype understands ``Self`` only when it is given the whole class, and the hook gives it one
    function at a time: such a function (``fit``) stays unchecked.
    """
    try:
        return beartype(function)
    except BeartypeDecorHintPep673Exception:
        return function
