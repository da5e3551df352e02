"""What an indicator or a strategy says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

COLUMNS = ("open", "high", "low", "close", "volume")
"""The inputs that a price series can give."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Indicator or strategy."""

    noun: str
    folder: str
    function: str


INDICATOR = Kind("indicator", "indicators", "compute")
STRATEGY = Kind("strategy", "strategies", "signals")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A setting of the function: a keyword parameter."""

    name: str
    type: str
    required: bool
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] | None = None

    def describe(self) -> dict[str, Any]:
        """As plain values, without what doesn't apply."""
        described: dict[str, Any] = {"name": self.name, "type": self.type, "required": self.required}
        if not self.required:
            described["default"] = self.default
        for name, value in (("minimum", self.minimum), ("maximum", self.maximum)):
            if value is not None:
                described[name] = value
        if self.choices is not None:
            described["choices"] = list(self.choices)
        return described


@dataclass(frozen=True, slots=True)
class Signature:
    """Everything that a caller must know to run the function."""

    name: str
    description: str
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "description": self.description,
            "inputs": list(self.inputs),
            "parameters": [parameter.describe() for parameter in self.parameters],
            "outputs": list(self.outputs),
        }
