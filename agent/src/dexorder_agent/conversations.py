"""Conversations as files with one JSON object a line."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.names import KEY_PATTERN, check
from dexorder_agent.repo.group import Edits, Read
from dexorder_agent.repo.repository import Change, Repository

MAX_MESSAGES = 200
SUMMARY_PATH = "context/conversation-summary.md"


def path_of(conversation: str) -> str:
    """Where a conversation is kept."""
    return f"conversations/{check(conversation, KEY_PATTERN, 'conversation')}.jsonl"


async def append(
    repository: Repository, conversation: str, key: str, messages: Sequence[dict[str, Any]], summary: str | None
) -> tuple[Change, bool]:
    """Add the messages in one commit, unless the key was used before; returns whether they were added now."""
    path = path_of(conversation)
    check(key, KEY_PATTERN, "idempotency key")
    if not 0 < len(messages) <= MAX_MESSAGES:
        raise WorkspaceError(f"a call can append 1 to {MAX_MESSAGES} messages, not {len(messages)}")
    await repository.opened()
    added = False

    def edit(read: Read) -> Edits:
        nonlocal added
        before = read(path) or b""
        if any(message.get("key") == key for message in parse(before)):
            return {path: before}
        added = True
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        lines = [json.dumps({"time": now, "key": key, **message}, ensure_ascii=False, allow_nan=False) for message in messages]
        edits: dict[str, bytes | None] = {path: before + "".join(f"{line}\n" for line in lines).encode()}
        if summary is not None:
            edits[SUMMARY_PATH] = summary.encode()
        return edits

    change = await repository.update(f"Append to the conversation {conversation}", edit)
    return change, added


async def read(repository: Repository, conversation: str, last: int) -> tuple[list[dict[str, Any]], int]:
    """The last messages of a conversation, and how many it has in all."""
    messages = parse(await repository.read(path_of(conversation)) or b"")
    return messages[-last:], len(messages)


def parse(content: bytes) -> list[dict[str, Any]]:
    """The messages of a file; a line that was damaged by hand is passed over."""
    messages = []
    for line in content.decode("utf-8", "replace").split("\n"):
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict):
            messages.append(message)
    return messages
