"""Streams that a client takes up again where it lost them, as the revision 2025-11-25 has it, and a tool that loses its own."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import JSONRPCMessage

RETRY_MILLISECONDS = 200
PAUSE_SECONDS = 0.1


class Events(EventStore):
    """Keeps the events of all streams in memory; an event's identifier is its place."""

    def __init__(self) -> None:
        self._events: list[tuple[str, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Keep an event."""
        self._events.append((stream_id, message))
        return str(len(self._events) - 1)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Send what came on the event's stream after it."""
        if not last_event_id.isdecimal() or int(last_event_id) >= len(self._events):
            return None
        last = int(last_event_id)
        stream = self._events[last][0]
        for number, (stream_id, message) in enumerate(self._events):
            if number > last and stream_id == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


def add_to(server: MCPServer[Any]) -> None:
    """Add the tool."""
    server.add_tool(test_reconnection, structured_output=False)


async def test_reconnection(ctx: Context[Any, Any]) -> str:
    """Closes its stream before it answers."""
    await ctx.close_sse_stream()
    await asyncio.sleep(PAUSE_SECONDS)
    return "done"
