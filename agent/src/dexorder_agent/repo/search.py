"""Finds text in the repository's files, with git's own search in a process of its own: no pattern can hold up the agent."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from dataclasses import dataclass

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.repo.paths import confine
from dexorder_agent.repo.repository import Repository

SECONDS = 10.0
MEMORY = 512 << 20
MAX_OUTPUT = 4 << 20
SHOWN_LINE = 500


@dataclass(frozen=True, slots=True)
class Match:
    """One line that matches."""

    path: str
    line: int
    text: str


async def search(
    repository: Repository, pattern: str, folder: str, *, regex: bool, ignore_case: bool, limit: int
) -> tuple[list[Match], bool]:
    """The lines that match, in order of path, and whether these are all."""
    await repository.opened()
    if not confine(repository.root, folder).exists():
        raise WorkspaceError(f"{folder} doesn't exist: list_files lists what there is")
    if not pattern or "\n" in pattern or "\0" in pattern:
        raise WorkspaceError("the pattern must be text of one line")
    command = ["-c", "grep.threads=1", "grep", "--untracked", "--no-color", "--full-name", "-I", "-n", "-z", "-E" if regex else "-F"]
    if ignore_case:
        command.append("-i")
    process = await repository.git.start(*command, "-e", pattern, "--", folder)
    assert process.stdout is not None and process.stderr is not None
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
    try:
        async with asyncio.timeout(SECONDS):
            output, complete = await _read(process.stdout)
            errors = b"" if not complete else await process.stderr.read(4096)
            if complete:
                await process.wait()
    except TimeoutError:
        raise WorkspaceError(f"the search took longer than {SECONDS:g} s: give a simpler pattern or a folder") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if complete and process.returncode not in (0, 1):
        reason = errors.decode("utf-8", "replace").strip().removeprefix("fatal: ") or "it needs too much memory"
        raise WorkspaceError(f"the pattern {pattern[:80]!r} can't be used: {reason[-300:]}")
    matches = [match for line in output.split(b"\n") if (match := _match(line)) is not None]
    return matches[:limit], complete and len(matches) <= limit


async def _read(stream: asyncio.StreamReader) -> tuple[bytes, bool]:
    """What the stream gives up to a limit, and whether that is all."""
    parts = bytearray()
    while len(parts) <= MAX_OUTPUT:
        part = await stream.read(1 << 16)
        if not part:
            return bytes(parts), True
        parts += part
    return bytes(parts[: parts.rindex(b"\n") + 1] if b"\n" in parts else b""), False


def _match(line: bytes) -> Match | None:
    parts = line.split(b"\0", 2)
    if len(parts) != 3 or not parts[1].isdigit():
        return None
    return Match(parts[0].decode("utf-8", "replace"), int(parts[1]), parts[2].decode("utf-8", "replace")[:SHOWN_LINE])
