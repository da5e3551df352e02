"""Which names things of a user may have."""

import re

from dexorder_agent.errors import WorkspaceError

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
"""Names of indicators and strategies: they are Python modules."""

KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
"""Names of conversations and idempotency keys."""

SERIES_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
"""Names of price series."""


def check(value: str, pattern: str, what: str) -> str:
    """Give the value back if it may be used as a name of this kind."""
    # fullmatch: with match, `$` would let a newline at the end through.
    if re.fullmatch(pattern, value) is None:
        raise WorkspaceError(f"{what} {value[:80]!r} can't be used: it must match {pattern}")
    return value
