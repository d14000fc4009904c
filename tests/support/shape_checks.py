"""The type checker of the tests: beartype, and jaxtyping where there are shapes to compare."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintPep673Exception

CAREFUL = beartype(conf=BeartypeConf(violation_type=TypeError))
"""Raises what Python does for a value of the wrong type, so that code that expects that goes on."""


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with its arguments, its result and their shapes checked at each call.

    beartype understands ``Self`` only when it is given the whole class, and the hook gives it one
    function at a time: such a function (``fit``) stays unchecked.
    """
    try:
        return CAREFUL(function)
    except BeartypeDecorHintPep673Exception:
        return function


def check_quickly() -> None:
    """Have jaxtyping's import hook compare shapes only of functions that name some.

    It binds the arguments of each call anew to compare them, which costs more than many a function does.
    A function inside another one is made at each call, and checked only if it names shapes.
    """
    jaxtyping.jaxtyped = functools.partial(_checker, jaxtyping.jaxtyped)


def _checker(with_shapes: Callable[..., Any], *, typechecker: Callable[..., Any]) -> Callable[..., Any]:
    def decorate(target: Any) -> Any:
        if inspect.isclass(target) or _names_shapes(target):
            return with_shapes(typechecker=typechecker)(target)
        return target if "<locals>" in target.__qualname__ else _unless_disabled(target, typechecker(target))

    return decorate


def _names_shapes(function: Callable[..., Any]) -> bool:
    """Also where an annotation, or a part of it, is in quotes, which may say anything."""
    hints = function.__annotations__.values()
    # A plain class has quotes in what it says of itself.
    return any(
        "jaxtyping." in repr(hint) or (not inspect.isclass(hint) and "'" in repr(hint)) for hint in hints
    )


def _unless_disabled(plain: Callable[..., Any], careful: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def function(*arguments: Any, **named: Any) -> Any:
        return (plain if jaxtyping.config.jaxtyping_disable else careful)(*arguments, **named)

    return function
