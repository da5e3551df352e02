"""Entry point: `python -m dexorder_agent`."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Start the agent; the exit status is 0 after an orderly end and 2 for a wrong setting."""
    from dexorder_agent import log, startup
    from dexorder_agent.settings import Settings

    # As the first process of a container it would not be ended by a signal that it has no handler for. There is nothing to save yet.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    log.configure()
    try:
        settings = Settings.from_environment()
    except ValueError as error:
        print(f"dexorder-agent: {error}", file=sys.stderr)
        return 2
    startup.prepare()
    import asyncio

    from dexorder_agent.serve import serve

    startup.finish()
    asyncio.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
