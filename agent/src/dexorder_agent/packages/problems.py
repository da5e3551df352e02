"""Puts what the solver says into words that name what was looked for, where, and what can't be changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

MOST = 2000
HEADING = "Cannot solve the request because of: "
MISSING = re.compile(rf"^{HEADING}No candidates were found for (\S+) (\S+?)\.?$")
"""The whole of what it says of a package that no channel has, or not in these versions."""


def explained(error: str, *, unsolved: bool, channels: Sequence[str], base: Mapping[str, str]) -> str:
    """The error of an installation; of one without a solution, with what the solver leaves out."""
    text = " ".join(error.split())[:MOST]
    if not unsolved:
        return text
    where = ", ".join(channels)
    missing = MISSING.match(text)
    if missing is not None:
        versions = "" if missing[2] == "*" else f" in a version {missing[2]}"
        return f"there is no package {missing[1]}{versions} in {where}: look for its name on the channel"
    fixed = [
        f"every workspace has {name} {version.lstrip('=')}, which can't be changed"
        for name, version in sorted(base.items())
        if re.search(rf"(?<![\w.-]){re.escape(name)} [<>=!~*0-9]", text)
    ]
    return "; ".join([f"these packages don't go together: {text.removeprefix(HEADING)}", *fixed])
