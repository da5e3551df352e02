"""Waits for a condition with a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def eventually(what: str, look: Callable[[], T | None], *, within: float, every: float = 0.2) -> T:
    """Look again and again until there is something true to see; an AssertionError names what didn't come."""
    deadline = time.monotonic() + within
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() >= deadline:
            message = f"{what}: not within {within:g} s (last seen: {seen!r})"
            raise AssertionError(message)
        time.sleep(every)
