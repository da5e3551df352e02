"""How tools are declared, and the set of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar, cast

from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata, func_metadata
from mcp_types import CallToolResult, ToolAnnotations
from mcp_types import Tool as ListedTool
from pydantic import ValidationError

from dexorder_agent.errors import WorkspaceError

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
    __doc__: str | None

    async def __call__(self, **arguments: Any) -> Any: ...


def tool(title: str, effect: Effect) -> Callable[[Function], Function]:
    """Declare a method to be a tool. Its name, parameters, result and docstring become the tool's."""

    def declare(function: Function) -> Function:
        function.declaration = Declaration(title, effect)  # type: ignore[attr-defined]
        return function

    return declare


class Tool:
    """One tool. Its schemas are made when they are first needed: that keeps the start short and the memory small."""

    def __init__(self, declared: _Declared) -> None:
        self._declared = declared
        self.name = declared.__name__
        self.effect = declared.declaration.effect

    @cached_property
    def _metadata(self) -> FuncMetadata:
        return func_metadata(self._declared, structured_output=True)

    @property
    def listed(self) -> ListedTool:
        """As clients see it."""
        title, effect = self._declared.declaration.title, self.effect
        return ListedTool(
            name=self.name,
            title=title,
            description=" ".join((self._declared.__doc__ or "").split()),
            input_schema=self._metadata.arg_model.model_json_schema(by_alias=True),
            output_schema=self._metadata.output_schema,
            annotations=ToolAnnotations(
                title=title,
                read_only_hint=effect.read_only,
                destructive_hint=effect.destructive,
                idempotent_hint=effect.idempotent,
                open_world_hint=effect.open_world,
            ),
        )

    async def run(self, arguments: dict[str, Any]) -> CallToolResult:
        """Run it; a WorkspaceError if the arguments are none that it takes, or if it can't do what they ask for."""
        known = [field.alias or name for name, field in self._metadata.arg_model.model_fields.items()]
        unknown = sorted(set(arguments) - set(known))
        if unknown:
            has = f"its arguments are {', '.join(known)}" if known else "it has none"
            raise WorkspaceError(f"{self.name} has no argument {unknown[0][:80]!r}: {has}")
        try:
            checked = self._metadata.validate_arguments(arguments)
        except ValidationError as error:
            raise WorkspaceError(f"{self.name}: {_problems(error)}") from None
        return cast(CallToolResult, self._metadata.convert_result(await self._declared(**checked)))


def _problems(error: ValidationError) -> str:
    """What is wrong with the arguments, without the library's links and without the values that were given."""
    found = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()[:5]]
    return f"these arguments can't be used: {'; '.join(found)}"[:2000]


class Toolbox:
    """The tools of some objects, in the order of declaration."""

    def __init__(self, *owners: object) -> None:
        self._tools: dict[str, Tool] = {}
        for owner in owners:
            for name, member in vars(type(owner)).items():
                if hasattr(member, "declaration"):
                    self._tools[name] = Tool(getattr(owner, name))

    def get(self, name: str) -> Tool | None:
        """The tool of this name."""
        return self._tools.get(name)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())
