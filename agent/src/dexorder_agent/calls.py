"""What a tool can do for the call that it serves, beside giving a result: report progress and attach images."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

EVERY_SECONDS = 0.5

Report = Callable[[float, float | None, str | None], Awaitable[None]]


@dataclass(slots=True)
class Call:
    """One call of a tool."""

    report: Report | None = None
    images: list[bytes] = field(default_factory=list)
    done: float = 0.0

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell the client how far the call is, if it asked. Progress never goes back."""
        if self.report is not None:
            self.done = max(self.done, done)
            await self.report(self.done, total, message)


current: ContextVar[Call] = ContextVar("call")
"""The call that this task serves."""


def here() -> Call:
    """The call that this task serves, or one that nobody listens to."""
    return current.get(None) or Call()


@contextlib.asynccontextmanager
async def ticking(message: Callable[[], str], total: float) -> AsyncIterator[None]:
    """Report the seconds that the block has taken, again and again, until it ends."""
    call = here()
    if call.report is None:
        yield
        return
    started = time.monotonic()

    async def tick() -> None:
        while True:
            await call.progress(min(round(time.monotonic() - started, 1), total), total, message())
            await asyncio.sleep(EVERY_SECONDS)

    ticker = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticker.cancel()
        # The last report must not come after the answer.
        await asyncio.gather(ticker, return_exceptions=True)
