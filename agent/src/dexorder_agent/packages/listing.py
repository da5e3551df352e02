"""The user's `environment.yml`: which packages are wanted, and from which channels."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dexorder_agent.errors import WorkspaceError

FILE = "environment.yml"
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
SPEC = re.compile(rf"({NAME})\s*([=<>!~ ][A-Za-z0-9=<>!~*.,|+_ -]{{0,200}})?")
CHANNEL = re.compile(r"[A-Za-z0-9_.-]{1,128}|(https?|file)://[^\s'\"]{1,500}")
EMPTY = "# Packages of conda that indicators and strategies may import, beside those that every workspace has.\ndependencies:\n"


@dataclass(frozen=True, slots=True)
class Listing:
    """What the file asks for."""

    channels: tuple[str, ...]
    specs: tuple[str, ...]


def parse(text: str) -> Listing:
    """Read the file. Only the plain lists `channels` and `dependencies` are understood; the error names the line."""
    found: dict[str, list[str]] = {"channels": [], "dependencies": []}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        content = re.sub(r"(^|\s)#.*", "", line).rstrip()
        if not content.strip():
            continue
        item = re.fullmatch(r"\s*-\s+(.*)", content)
        if item is None:
            heading = re.fullmatch(r"([a-z_]+):\s*(\[\s*\]|[^\[{]*)", content)
            if heading is None or (heading[1] in found and heading[2] not in ("", "[]")):
                raise WorkspaceError(f"{FILE} line {number} isn't understood: write a list with one `- name` a line")
            section = heading[1]
            continue
        value = item[1].strip().strip("'\"")
        if section == "channels":
            if CHANNEL.fullmatch(value) is None:
                raise WorkspaceError(f"{FILE} line {number}: {value[:80]!r} is no channel: write a name or an address")
            found[section].append(value)
        elif section == "dependencies":
            check(value, f"{FILE} line {number}: ")
            found[section].append(value)
    return Listing(tuple(found["channels"]), tuple(found["dependencies"]))


def check(spec: str, where: str = "") -> str:
    """The name in a package specification; an error if it is none."""
    match = SPEC.fullmatch(spec)
    if match is None:
        raise WorkspaceError(f"{where}package {spec[:80]!r} can't be used: write a name, or a name and versions like pandas>=2.2")
    return normal(match[1])


def normal(name: str) -> str:
    """A name as conda writes it."""
    return name.lower()


def add(text: str, spec: str) -> str:
    """The file with this package added, or in place of the line that names it already."""
    name, lines = check(spec), (text or EMPTY).splitlines()
    at = _line_of(lines, name)
    if at is not None:
        lines[at] = f"  - {spec}"
    else:
        heading = next((index for index, line in enumerate(lines) if re.match(r"dependencies:", line)), None)
        if heading is None:
            lines += ["dependencies:"]
            heading = len(lines) - 1
        lines[heading] = "dependencies:"
        end = heading + 1
        while end < len(lines) and re.match(r"\s*(-\s|#|$)", lines[end]):
            end += 1
        while end > heading + 1 and not lines[end - 1].strip():
            end -= 1
        lines.insert(end, f"  - {spec}")
    return "\n".join(lines) + "\n"


def remove(text: str, name: str) -> str:
    """The file without this package; an error if it isn't in it."""
    lines = text.splitlines()
    at = _line_of(lines, normal(name))
    if at is None:
        listed = ", ".join(check(spec) for spec in parse(text).specs)
        raise WorkspaceError(f"package {name[:80]!r} isn't in {FILE}: {f'there are {listed}' if listed else 'there is none'}")
    del lines[at]
    return "\n".join(lines) + "\n"


def _line_of(lines: list[str], name: str) -> int | None:
    inside = False
    for index, line in enumerate(lines):
        if re.match(r"\S*:", line):
            inside = line.startswith("dependencies:")
        item = re.match(rf"\s*-\s+['\"]?({NAME})", line)
        if inside and item is not None and normal(item[1]) == name:
            return index
    return None
