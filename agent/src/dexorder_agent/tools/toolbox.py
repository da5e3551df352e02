"""How tools are declared, and the set of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mcp.server.mcpserver.tools.base import Tool
from mcp_types import ToolAnnotations

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Effect:
    """What a tool does to the workspace, as its annotations tell clients."""

    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool = False
    """Whether it reaches out of the workspace, to a channel of packages."""


READS = Effect(read_only=True, destructive=False, idempotent=True)
ADDS = Effect(read_only=False, destructive=False, idempotent=True)
REPLACES = Effect(read_only=False, destructive=True, idempotent=True)

FETCHES = Effect(read_only=False, destructive=False, idempotent=True, open_world=True)
REPLACES_FETCHING = Effect(read_only=False, destructive=True, idempotent=True, open_world=True)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is declared of a tool beside its function."""

    title: str
    effect: Effect


class _Declared(Protocol):
    declaration: Declaration
    __name__: str


def tool(title: str, effect: Effect) -> Callable[[Function], Function]:
    """Declare a method to be a tool. Its name, parameters, result and docstring become the tool's."""

    def declare(function: Function) -> Function:
        function.declaration = Declaration(title, effect)  # type: ignore[attr-defined]
        return function

    return declare


class Toolbox:
    """The tools of some objects. A tool's schemas are made when they are first needed: that keeps the start short."""

    def __init__(self, *owners: object) -> None:
        self._declared: dict[str, _Declared] = {}
        self._built: dict[str, Tool] = {}
        for owner in owners:
            for name, member in vars(type(owner)).items():
                if hasattr(member, "declaration"):
                    self._declared[name] = getattr(owner, name)

    def names(self) -> list[str]:
        """All names, in the order of declaration."""
        return list(self._declared)

    def effect(self, name: str) -> Effect | None:
        """What the tool does, None if there is no such tool."""
        declared = self._declared.get(name)
        return None if declared is None else declared.declaration.effect

    def get(self, name: str) -> Tool | None:
        """The tool with its schemas."""
        if name not in self._built and name in self._declared:
            self._built[name] = _build(self._declared[name])
        return self._built.get(name)

    def all(self) -> list[Tool]:
        """Every tool."""
        return [built for name in self._declared if (built := self.get(name)) is not None]


def _build(declared: Any) -> Tool:
    declaration: Declaration = declared.declaration
    effect = declaration.effect
    return Tool.from_function(
        declared,
        title=declaration.title,
        description=" ".join((declared.__doc__ or "").split()),
        annotations=ToolAnnotations(
            title=declaration.title,
            read_only_hint=effect.read_only,
            destructive_hint=effect.destructive,
            idempotent_hint=effect.idempotent,
            open_world_hint=effect.open_world,
        ),
        structured_output=True,
    )
