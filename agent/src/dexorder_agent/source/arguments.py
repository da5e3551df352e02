"""Checks the parameters of a call against a signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.source.model import Signature
from dexorder_agent.source.read import mismatch


def check(signature: Signature, given: Mapping[str, Any]) -> dict[str, Any]:
    """The full set of parameters, defaults filled in; an error names the parameter and what it may be."""
    known = {parameter.name: parameter for parameter in signature.parameters}
    for name in given:
        if name not in known:
            has = f"its parameters are {', '.join(known)}" if known else "it has none"
            raise WorkspaceError(f"{signature.name} has no parameter {name[:80]!r}: {has}")
    checked: dict[str, Any] = {}
    for name, parameter in known.items():
        if name not in given:
            if parameter.required:
                raise WorkspaceError(f"{signature.name} needs the parameter {name} ({parameter.type})")
            checked[name] = parameter.default
            continue
        value = given[name]
        # JSON has one kind of number: 14.0 is a whole number too.
        if parameter.type == "int" and isinstance(value, float) and value.is_integer():
            value = int(value)
        problem = mismatch(parameter, value)
        if problem:
            raise WorkspaceError(f"parameter {name} of {signature.name} {problem}")
        checked[name] = float(value) if parameter.type == "float" else value
    return checked
