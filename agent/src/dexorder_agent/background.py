"""Work that goes on beside the calls, at most once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


class Background:
    """One piece of work in the background."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Begin it, unless it goes on already."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(work())

    async def close(self) -> None:
        """Stop it, and wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
