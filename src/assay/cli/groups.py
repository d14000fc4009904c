"""Groups: dataclasses of flags, spread over the command line."""

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any


def with_flags(command: Callable[..., int]) -> Callable[..., int]:
    """The command with the fields of each group among its parameters as parameters of their own."""
    groups: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in inspect.signature(command).parameters.items()
        if is_dataclass(parameter.annotation)
    }

    @functools.wraps(command)
    def spread(**values: Any) -> int:
        gathered = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        return command(**values, **gathered)

    parameters = list(_parameters(command))
    spread.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]  # typer reads it
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread


def _parameters(command: Callable[..., int]) -> Iterator[inspect.Parameter]:
    for parameter in inspect.signature(command).parameters.values():
        if not is_dataclass(parameter.annotation):
            yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        for field in fields(parameter.annotation):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=field.type
            )
