"""Conversations as files with one JSON object a line."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dexorder_agent.errors import NotFoundError, WorkspaceError
from dexorder_agent.names import KEY_PATTERN, check
from dexorder_agent.repo.group import Edits, Read
from dexorder_agent.repo.repository import MAX_FILE_BYTES, Change, Repository

MAX_MESSAGES = 200
SHOWN = 100
FOLDER = "conversations"
SUMMARY_PATH = "context/conversation-summary.md"


def path_of(conversation: str) -> str:
    """Where a conversation is kept."""
    return f"{FOLDER}/{check(conversation, KEY_PATTERN, 'conversation')}.jsonl"


@dataclass(frozen=True, slots=True)
class Appended:
    """What came of it: whether the messages were added now, and the bytes of the conversation before and after."""

    change: Change
    added: bool
    bytes_before: int
    bytes_after: int


async def append(
    repository: Repository,
    conversation: str,
    key: str,
    messages: Sequence[dict[str, Any]],
    turn: dict[str, Any] | None = None,
    summary: str | None = None,
) -> Appended:
    """Add the messages of a turn in one commit, unless the key was used before.

    `turn` is what is kept of the turn as a whole, beside its last message.
    """
    path = path_of(conversation)
    check(key, KEY_PATTERN, "idempotency key")
    if not 0 < len(messages) <= MAX_MESSAGES:
        raise WorkspaceError(f"a call can append 1 to {MAX_MESSAGES} messages, not {len(messages)}")
    added = False
    sizes = (0, 0)

    def edit(read: Read) -> Edits:
        nonlocal added, sizes
        before = read(path) or b""
        sizes = (len(before), len(before))
        if key.encode() in before and any(message.get("key") == key for message in parse(before)):
            return {path: before}
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        kept = [{"time": now, "key": key, **message} for message in messages]
        if turn:
            kept[-1]["turn"] = turn
        lines = [json.dumps(message, ensure_ascii=False, allow_nan=False) for message in kept]
        # A line that a cut short write left open is closed, so that it doesn't swallow this one.
        start = before if not before or before.endswith(b"\n") else before + b"\n"
        content = start + "".join(f"{line}\n" for line in lines).encode()
        if len(content) > MAX_FILE_BYTES:
            raise WorkspaceError(f"the conversation {conversation} would be larger than {MAX_FILE_BYTES} bytes: begin another")
        added = True
        sizes = (len(before), len(content))
        edits: dict[str, bytes | None] = {path: content}
        if summary is not None:
            edits[SUMMARY_PATH] = summary.encode()
        return edits

    change = await repository.update(f"Append to the conversation {conversation}", edit)
    return Appended(change, added, *sizes)


@dataclass(frozen=True, slots=True)
class Window:
    """Messages of a conversation: the number of the first, how many there are in all, and the bytes of all."""

    messages: list[dict[str, Any]]
    first: int
    total: int
    bytes: int


async def read(repository: Repository, conversation: str, last: int, before: int | None = None) -> Window:
    """Messages of a conversation, up to the one with the number `before`."""
    content = await repository.read(path_of(conversation)) or b""
    messages = parse(content)
    end = len(messages) if before is None else min(before, len(messages))
    first = max(0, end - last)
    return Window(messages[first:end], first, len(messages), len(content))


async def shown(repository: Repository, conversation: str) -> dict[str, Any]:
    """A conversation as a resource: its newest messages."""
    content = await repository.read(path_of(conversation))
    if content is None:
        raise NotFoundError(f"conversation {conversation!r} doesn't exist")
    messages = parse(content)
    return {"conversation": conversation, "total": len(messages), "messages": messages[-SHOWN:]}


async def names(repository: Repository) -> list[tuple[str, int, float]]:
    """Name, size and time of change of every conversation, the one that changed last first."""
    await repository.opened()
    found = []
    try:
        with os.scandir(repository.root / FOLDER) as entries:
            for entry in entries:
                if entry.name.endswith(".jsonl") and entry.is_file(follow_symlinks=False):
                    status = entry.stat()
                    found.append((entry.name.removesuffix(".jsonl"), status.st_size, status.st_mtime))
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda entry: (-entry[2], entry[0]))


async def delete(repository: Repository, conversation: str) -> Change:
    """Remove a conversation; it stays in the history."""
    path = path_of(conversation)

    def edit(read: Read) -> Edits:
        if read(path) is None:
            raise NotFoundError(f"conversation {conversation!r} doesn't exist: there is nothing to delete")
        return {path: None}

    return await repository.update(f"Delete the conversation {conversation}", edit)


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
