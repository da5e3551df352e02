"""Applies several changes to the files at once, so that they share one commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.repo import files
from dexorder_agent.repo.objects import write
from dexorder_agent.repo.paths import confine

SYNCS = 16
"""So many files are synced at the same time."""

Edits = Mapping[str, bytes | None]
"""New contents by path; None removes the file."""

Read = Callable[[str], bytes | None]
"""Gives the content of a file as the changes before this one left it."""

Edit = Callable[[Read], Edits]
"""Works out the edits of a change. It runs while no other writer is at work."""


@dataclass(slots=True)
class Member:
    """One change of a group, and what became of it."""

    message: str
    edit: Edit
    edits: Edits = field(default_factory=dict)
    differs: bool = False
    error: Exception | None = None


def apply(root: Path, members: list[Member], algorithm: str) -> dict[str, str | None]:
    """Write the files of all members, and git's objects for them; returns the objects' names by path, None for what is gone.

    A member that can't be applied gets its error and changes nothing. Every file is on the disk under a temporary name before the first
    takes its place, so a power cut leaves old files or new ones.
    """
    contents: dict[str, bytes | None] = {}
    written: dict[str, str | None] = {}

    def read(path: str) -> bytes | None:
        if path not in contents:
            contents[path] = _content(confine(root, path))
        return contents[path]

    for member in members:
        prepared: dict[str, str | None] = {}
        try:
            member.edits = dict(member.edit(read))
            for path, content in member.edits.items():
                target = confine(root, path)
                if read(path) == content:
                    prepared.setdefault(path, written.get(path))
                    continue
                member.differs = True
                prepared[path] = None if content is None else files.prepare(target, content)
        except OSError as error:
            member.error = WorkspaceError(f"{', '.join(member.edits)} can't be written: {error.strerror}")
        except Exception as error:
            member.error = error
        if member.error is not None:
            for path, temporary in prepared.items():
                if temporary is not None and temporary != written.get(path):
                    os.unlink(temporary)
            continue
        for path, temporary in prepared.items():
            older = written.get(path)
            if older is not None and older != temporary:
                os.unlink(older)
            written[path] = temporary
        contents.update(member.edits)
    objects = _flush(root, members, written, contents, algorithm)
    _place(root, members, written, contents)
    return {path: objects[path] for member in members if member.error is None for path in member.edits}


def _flush(
    root: Path, members: list[Member], written: dict[str, str | None], contents: Mapping[str, bytes | None], algorithm: str
) -> dict[str, str | None]:
    """Have the written files and their objects on the disk: all at the same time, which takes hardly longer than one."""
    objects: dict[str, str | None] = {}

    def flush(path: str) -> None:
        content, temporary = contents[path], written.get(path)
        if content is not None:
            objects[path] = write(root / ".git", content, algorithm)
        if temporary is not None:
            files.sync_file(temporary)

    wanted = dict.fromkeys(path for member in members if member.error is None for path in member.edits)
    objects.update(dict.fromkeys(wanted))
    for path, done in [(path, _syncing().submit(flush, path)) for path in wanted]:
        try:
            done.result()
        except OSError as error:
            temporary = written.pop(path, None)
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            _fail(members, path, error)
    return objects


@cache
def _syncing() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(SYNCS, "sync")


def _fail(members: list[Member], path: str, error: OSError) -> None:
    for member in members:
        if path in member.edits and member.error is None:
            member.error = WorkspaceError(f"{path} can't be written: {error.strerror}")


def _place(root: Path, members: list[Member], written: Mapping[str, str | None], contents: Mapping[str, bytes | None]) -> None:
    """Move the written files to their places and remove those that go."""
    folders = set()
    for path, temporary in written.items():
        target = root / path
        try:
            if temporary is not None:
                os.rename(temporary, target)
            elif contents[path] is None and target.exists():
                target.unlink()
            else:
                continue
            folders.add(target.parent)
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            _fail(members, path, error)
    for done in [_syncing().submit(files.sync_folder, folder) for folder in folders]:
        done.result()


def _content(target: Path) -> bytes | None:
    try:
        return target.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def message(members: list[Member]) -> str:
    """The commit's message: that of the one change, or all of them under a heading."""
    different = list(dict.fromkeys(member.message for member in members))
    if len(different) == 1:
        return different[0]
    return "\n".join([f"{different[0]} and {len(different) - 1} more", "", *(f"- {line}" for line in different)])
