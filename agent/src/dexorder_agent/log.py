"""Logs as one JSON object a line on standard error, with no text that came from a user."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Any


class JsonLines(logging.Formatter):
    """Formats a record; of an exception only its type and places, since its message may quote user data."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = record.exc_info[0].__name__
            line["at"] = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
        return json.dumps(line)


def configure() -> None:
    """Send the logs of the whole process to standard error. Libraries log from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("dexorder_agent").setLevel(logging.INFO)


def event(logger: logging.Logger, message: str, **fields: Any) -> None:
    """Log something that happened, with named values beside it."""
    logger.info(message, extra={"fields": fields})
