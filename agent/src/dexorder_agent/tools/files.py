"""Tools for any file of the repository."""

from __future__ import annotations

import os
from pathlib import Path as FilePath
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from dexorder_agent.errors import NotFoundError, WorkspaceError
from dexorder_agent.repo import search
from dexorder_agent.repo.paths import TEMPORARY_PREFIX, confine
from dexorder_agent.repo.repository import MAX_FILE_BYTES
from dexorder_agent.tools.shapes import Path, SavedShape
from dexorder_agent.tools.toolbox import READS, REPLACES, tool
from dexorder_agent.workspace import Workspace

MAX_LISTED = 5000


class FileShape(TypedDict):
    """One file."""

    path: str
    bytes: int


class FileListShape(TypedDict):
    """Files in order of path; `complete` is false if there are more than are listed."""

    files: list[FileShape]
    complete: bool


class FileContentShape(TypedDict):
    """A text file."""

    path: str
    content: str


class MatchShape(TypedDict):
    """One line that matches."""

    path: str
    line: int
    text: str


class MatchListShape(TypedDict):
    """Matching lines in order of path; `complete` is false if there are more."""

    matches: list[MatchShape]
    complete: bool


class FileTools:
    """List, read, search and write, confined to the repository."""

    def __init__(self, workspace: Workspace) -> None:
        self._repository = workspace.repository

    @tool("List files", READS)
    async def list_files(self, folder: Annotated[str, Field(description="Folder in the repository; left out: all")] = ".") -> FileListShape:
        """List the files of the repository, or of one folder in it."""
        await self._repository.opened()
        root = self._repository.root
        start = confine(root, folder)
        if not start.is_dir():
            raise NotFoundError(f"folder {folder} doesn't exist")
        found = _walk(start, root)
        return FileListShape(files=found[:MAX_LISTED], complete=len(found) <= MAX_LISTED)

    @tool("Read a file", READS)
    async def read_file(self, path: Path) -> FileContentShape:
        """Read a text file of the repository."""
        content = await self._repository.read(path)
        if content is None:
            raise NotFoundError(f"file {path} doesn't exist: list_files lists those that do")
        try:
            return FileContentShape(path=path, content=content.decode("utf-8"))
        except UnicodeDecodeError:
            raise WorkspaceError(f"file {path} is not text in UTF-8") from None

    @tool("Search files", READS)
    async def search_files(
        self,
        pattern: Annotated[str, Field(description="Text to look for, in one line", min_length=1, max_length=1000)],
        regex: Annotated[bool, Field(description="The pattern is a POSIX extended regular expression")] = False,
        ignore_case: Annotated[bool, Field(description="Upper and lower case are the same")] = False,
        folder: Annotated[str, Field(description="Folder or file in the repository; left out: all", max_length=512)] = ".",
        limit: Annotated[int, Field(description="How many lines at most", ge=1, le=5000)] = 200,
    ) -> MatchListShape:
        """Find the lines of the repository's text files that contain a text or match a regular expression."""
        found, complete = await search.search(self._repository, pattern, folder, regex=regex, ignore_case=ignore_case, limit=limit)
        return MatchListShape(matches=[MatchShape(path=match.path, line=match.line, text=match.text) for match in found], complete=complete)

    @tool("Write a file", REPLACES)
    async def write_file(
        self, path: Path, content: Annotated[str, Field(description="The whole new text", max_length=MAX_FILE_BYTES)]
    ) -> SavedShape:
        """Write a text file of the repository, new or in place of the one there, and commit it. For indicators and strategies use
        save_indicator and save_strategy, which check the source."""
        data = content.encode()
        if len(data) > MAX_FILE_BYTES:
            raise WorkspaceError(f"the content is larger than {MAX_FILE_BYTES} bytes, the most that a file may have")
        target = confine(self._repository.root, path)
        if target == self._repository.root or target.is_dir():
            raise WorkspaceError(f"{path} is a folder: name a file")
        change = await self._repository.change(f"Write {path}", {path: data})
        return SavedShape(path=path, commit=change.commit, changed=change.changed)


def _walk(start: FilePath, root: FilePath) -> list[FileShape]:
    found: list[FileShape] = []
    for folder, folders, names in os.walk(start):
        folders[:] = sorted(name for name in folders if name not in (".git", "__pycache__"))
        for name in names:
            path = FilePath(folder, name)
            if not name.startswith(TEMPORARY_PREFIX) and path.is_file() and not path.is_symlink():
                found.append(FileShape(path=str(path.relative_to(root)), bytes=path.stat().st_size))
    return sorted(found, key=lambda file: file["path"])
