"""What the page may send: nothing but numbers, short words and known fields."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MOST_AT_ONCE = 100

MOST_CLASSES = 2**20
"""Bounds what is sent; whether there is such a class is checked where the run is known."""

Item = Annotated[int, Field(ge=1, le=2**40)]
Label = Annotated[int, Field(ge=0, le=MOST_CLASSES)]
Client = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Choice(_Strict):
    """A class for one image, or none."""

    item: Item
    label: Label | None
    """Class index; null skips the image."""
    revision: Annotated[int, Field(ge=0, le=2**40)]
    """The one that was looked at."""


class DecideRequest(_Strict):
    """Up to a hundred choices of one window."""

    client: Client
    choices: Annotated[list[Choice], Field(min_length=1, max_length=MOST_AT_ONCE)]


class UndoRequest(_Strict):
    """Take back the newest decisions of a window."""

    client: Client
    count: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = 1


class KeysRequest(_Strict):
    """The keys that a person wants."""

    keys: Annotated[
        dict[Annotated[str, Field(max_length=40)], Annotated[str, Field(max_length=8)]],
        Field(max_length=MOST_CLASSES),
    ]
