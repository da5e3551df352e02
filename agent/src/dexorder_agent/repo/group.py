"""Works out several changes to the files at once, so that they share one commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.repo import files
from dexorder_agent.repo.paths import confine

Edits = Mapping[str, bytes | None]
"""New contents by path; None removes the file."""

Read = Callable[[str], bytes | None]
"""Gives the content of a file as the changes before this one left it."""

Edit = Callable[[Read], Edits]
"""Works out the edits of a change. It runs while no other writer is at work, and perhaps more than once."""


class PathError(Exception):
    """A file that can't be written or removed."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(f"{path} can't be written: {error.strerror}")
        self.path = path


@dataclass(slots=True)
class Member:
    """One change of a group, and what became of it."""

    message: str
    edit: Edit
    edits: Edits = field(default_factory=dict)
    differs: bool = False
    error: Exception | None = None


@dataclass(slots=True)
class Draft:
    """What the changes of a group come to. Their files are written in two steps."""

    root: Path
    before: Mapping[str, bytes | None]
    contents: Mapping[str, bytes | None]
    """Of every file that a change named."""
    _temporaries: dict[str, str] = field(default_factory=dict)

    def write(self, path: str) -> None:
        """Have a file's content on the disk, under a temporary name if it is new."""
        content, target = self.contents[path], self.root / path
        try:
            if content is not None and content != self.before[path]:
                self._temporaries[path] = files.prepare(target, content)
            elif content is not None:
                files.sync_file(target)
        except OSError as error:
            raise PathError(path, error) from error

    def place(self) -> None:
        """Move the new files to their places and remove those that go."""
        for path, content in self.contents.items():
            target = self.root / path
            try:
                if path in self._temporaries:
                    os.rename(self._temporaries[path], target)
                    del self._temporaries[path]
                elif content is None and self.before[path] is not None:
                    target.unlink(missing_ok=True)
            except OSError as error:
                raise PathError(path, error) from error

    @property
    def folders(self) -> set[Path]:
        """The folders that name the files."""
        return {folder for path in self.contents if (folder := (self.root / path).parent).is_dir()}

    def discard(self) -> None:
        """Remove the new files that did not come to their places."""
        for temporary in self._temporaries.values():
            Path(temporary).unlink(missing_ok=True)


def draft(root: Path, members: list[Member]) -> Draft:
    """Work out the changes one after the other. One that can't be made gets its error and changes nothing."""
    before: dict[str, bytes | None] = {}
    contents: dict[str, bytes | None] = {}

    def read(path: str) -> bytes | None:
        path = _normal(path)
        if path in contents:
            return contents[path]
        if path not in before:
            before[path] = _content(confine(root, path))
        return before[path]

    for member in members:
        if member.error is not None:
            continue
        try:
            wanted = member.edit(read)
            for path in wanted:
                confine(root, path)
            member.edits = {_normal(path): content for path, content in wanted.items()}
            differing = [path for path, content in member.edits.items() if read(path) != content]
        except OSError as error:
            member.error = WorkspaceError(f"{', '.join(member.edits)} can't be written: {error.strerror}")
        except Exception as error:
            member.error = error
        else:
            # One that is worked out again, as another failed, differs from what there was at first.
            member.differs = member.differs or bool(differing)
            contents |= member.edits
    return Draft(root, before, contents)


def fail(members: list[Member], error: PathError) -> None:
    """Give the error to the changes that name the file."""
    for member in members:
        if member.error is None and error.path in member.edits:
            member.error = WorkspaceError(str(error))


def _normal(path: str) -> str:
    return str(PurePosixPath(path))


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
