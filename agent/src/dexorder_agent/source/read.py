"""Finds the signature of an indicator or a strategy in its syntax tree."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

from dexorder_agent.errors import SourceError
from dexorder_agent.source.model import COLUMNS, INDICATOR, Kind, Parameter, Signature

TYPES = {"int": int, "float": float, "bool": bool, "str": str}
HINT = "write a keyword parameter like `period: Annotated[int, (2, 500)] = 14`"


def read(name: str, source: str, kind: Kind) -> Signature:
    """The signature of the file, or a SourceError that names the line and what to write."""
    path = f"{kind.folder}/{name}.py"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, filename=path)
    except SyntaxError as error:
        shown = f": {error.text.strip()[:120]!r}" if error.text else ""
        raise SourceError(f"{path} line {error.lineno}: {error.msg}{shown}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise SourceError(f"{path} can't be parsed: {error}") from None
    function = _function(tree, path, kind)
    where = f"{path} line {function.lineno}: {kind.function}"
    arguments = function.args
    if arguments.vararg or arguments.kwarg:
        raise SourceError(f"{where} has * or ** parameters: name each one")
    inputs = tuple(argument.arg for argument in [*arguments.posonlyargs, *arguments.args])
    if not inputs or arguments.defaults:
        raise SourceError(f"{where} must begin with the prices that it reads, without defaults, and have its settings after `*`")
    for column in inputs:
        if column not in COLUMNS:
            raise SourceError(
                f"{where} asks for {column!r}, which is no column of a series: inputs are {', '.join(COLUMNS)}; settings come after `*`"
            )
    if len(set(inputs)) != len(inputs):
        raise SourceError(f"{where} names an input twice")
    parameters = tuple(
        _parameter(argument, default, f"{path} line {argument.lineno}")
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    )
    outputs = _outputs(tree, name, path) if kind is INDICATOR else ("position",)
    return Signature(name, _description(tree), inputs, parameters, outputs)


def _function(tree: ast.Module, path: str, kind: Kind) -> ast.FunctionDef:
    for node in tree.body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name == kind.function:
            raise SourceError(f"{path} line {node.lineno}: {kind.function} must be an ordinary function, not async")
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == kind.function]
    if not found:
        raise SourceError(
            f"{path} line 1: there is no function {kind.function}: write `def {kind.function}(close, *, ...):` at the top level"
        )
    return found[-1]


def _description(tree: ast.Module) -> str:
    return " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split())[:500]


def _parameter(argument: ast.arg, default: ast.expr | None, where: str) -> Parameter:
    name = argument.arg
    value = _literal(default, f"{where}: the default of {name}") if default is not None else None
    type_name, bounds, choices = _annotation(argument.annotation, value, f"{where}: {name}")
    parameter = Parameter(
        name=name,
        type=type_name,
        required=default is None,
        default=value,
        minimum=bounds[0],
        maximum=bounds[1],
        choices=choices,
    )
    if default is not None:
        problem = mismatch(parameter, value)
        if problem:
            raise SourceError(f"{where}: the default of {name} {problem}")
    return parameter


Bounds = tuple[float | None, float | None]


def _annotation(node: ast.expr | None, default: Any, where: str) -> tuple[str, Bounds, tuple[Any, ...] | None]:
    """Type, bounds and choices from an annotation; a parameter without one has the type of its default."""
    free: Bounds = (None, None)
    if node is None:
        type_name = type(default).__name__
        if type_name not in TYPES:
            raise SourceError(f"{where} has no type: {HINT}")
        return type_name, free, None
    base = _last_name(node)
    if base in TYPES and not isinstance(node, ast.Subscript):
        return base, free, None
    if isinstance(node, ast.Subscript) and base == "Literal":
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        literals = tuple(_literal(item, where) for item in items)
        kinds = {type(literal).__name__ for literal in literals}
        if len(kinds) != 1 or not kinds <= TYPES.keys():
            raise SourceError(f"{where}: the choices of a Literal must be of one type: {', '.join(TYPES)}")
        return kinds.pop(), free, literals
    if isinstance(node, ast.Subscript) and base == "Annotated" and isinstance(node.slice, ast.Tuple):
        inner, *notes = node.slice.elts
        type_name, bounds, choices = _annotation(inner, default, where)
        for note in notes:
            value = _literal(note, where)
            if isinstance(value, tuple) and len(value) == 2 and all(_is_number(item) or item is None for item in value):
                bounds = (value[0], value[1])
            elif not isinstance(value, str):
                raise SourceError(f"{where} has bounds that can't be read: {HINT}")
        if bounds != free and type_name not in ("int", "float"):
            raise SourceError(f"{where} has bounds, but {type_name} has no order: {HINT}")
        return type_name, bounds, choices
    raise SourceError(f"{where} has the annotation {ast.unparse(node)[:80]}, which isn't understood: {HINT}")


def _outputs(tree: ast.Module, name: str, path: str) -> tuple[str, ...]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets: list[ast.expr] = list(node.targets)
            value: ast.expr | None = node.value
        elif isinstance(node, ast.AnnAssign):
            targets, value = [node.target], node.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == "OUTPUTS" for target in targets) and value is not None:
            where = f"{path} line {node.lineno}: OUTPUTS"
            outputs = _literal(value, where)
            if isinstance(outputs, str):
                outputs = (outputs,)
            valid = isinstance(outputs, tuple | list) and all(
                isinstance(item, str) and re.fullmatch(r"[a-z][a-z0-9_]{0,63}", item) for item in outputs
            )
            if not valid or not 0 < len(outputs) <= 32 or len(set(outputs)) != len(outputs):
                raise SourceError(f'{where} must be a tuple of different names like ("upper", "lower")')
            return tuple(outputs)
    return (name,)


def _literal(node: ast.expr, where: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise SourceError(f"{where} must be written out, not computed: {ast.unparse(node)[:80]}") from None


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        return _last_name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def mismatch(parameter: Parameter, value: Any) -> str | None:
    """What is wrong with a value for a parameter, None if nothing is."""
    fits = _is_number(value) if parameter.type == "float" else type(value) is TYPES[parameter.type]
    if not fits:
        return f"is {str(value)[:40]!r}, but must be of type {parameter.type}"
    if isinstance(value, float) and value - value != 0:
        return "must be a finite number"
    if parameter.minimum is not None and value < parameter.minimum:
        return f"is {value}, but must be at least {parameter.minimum}"
    if parameter.maximum is not None and value > parameter.maximum:
        return f"is {value}, but must be at most {parameter.maximum}"
    if parameter.choices is not None and value not in parameter.choices:
        return f"is {value!r}, but must be one of {', '.join(map(repr, parameter.choices))}"
    return None
