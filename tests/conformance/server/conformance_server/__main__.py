"""Entry point: serves on the agent's socket until the process is asked to end."""

from __future__ import annotations

import asyncio
import signal

from dexorder_agent import log
from dexorder_agent.serve import UnixServer
from dexorder_agent.settings import Settings

from conformance_server.app import application


async def serve(settings: Settings) -> None:
    """Run the server."""
    server = UnixServer(application(), settings.socket)
    # Streams that only wait for news may be cut.
    server.config.timeout_graceful_shutdown = 1

    def end() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    await server.serve()
    settings.socket.unlink(missing_ok=True)


def main() -> None:
    """Start with the settings of the agent."""
    log.configure()
    asyncio.run(serve(Settings.from_environment()))


if __name__ == "__main__":
    main()
