"""Parameters and results that several tools share."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

Name = Annotated[str, Field(description="Name: lower-case letters, digits and _, beginning with a letter", max_length=64)]
Source = Annotated[str, Field(description="The whole Python source of the file", max_length=500_000)]
Parameters = Annotated[
    dict[str, Any] | None,
    Field(description="Values of the function's parameters by name; those left out have their defaults"),
]
SeriesArgument = Annotated[
    str | dict[str, list[float]] | None,
    Field(
        description="The prices: the name of a series in data/, or lists of numbers by column (open, high, low, close, volume). "
        "Left out: the IBM daily series that every workspace has"
    ),
]
Last = Annotated[int | None, Field(description="Give back only this many of the newest values", ge=1, le=1_000_000)]
Path = Annotated[str, Field(description="Path in the repository, like indicators/rsi.py", max_length=512)]


class ParameterShape(TypedDict):
    """One parameter of an indicator or strategy."""

    name: str
    type: str
    required: bool
    default: NotRequired[Any]
    minimum: NotRequired[float]
    maximum: NotRequired[float]
    choices: NotRequired[list[Any]]


class EntryShape(TypedDict):
    """What an indicator or strategy says about itself, or the error in it."""

    name: str
    description: str
    inputs: list[str]
    parameters: list[ParameterShape]
    outputs: list[str]
    error: NotRequired[str]


class SourceShape(TypedDict):
    """A source file."""

    name: str
    path: str
    source: str
    signature: NotRequired[EntryShape]
    error: NotRequired[str]


class SavedShape(TypedDict):
    """A change that is committed: it survives whatever happens to the pod."""

    path: str
    commit: str
    changed: bool


class RunShape(TypedDict):
    """Values of each output, one for each bar, null where there is none."""

    name: str
    series: str
    parameters: dict[str, Any]
    bars: int
    first_bar: int
    times: list[str] | None
    outputs: dict[str, list[float | None]]
    printed: str
    milliseconds: float
