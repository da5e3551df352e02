"""Tools for the repository's history."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from dexorder_agent.repo import history
from dexorder_agent.tools.shapes import Path, SavedShape
from dexorder_agent.tools.toolbox import READS, REPLACES, tool
from dexorder_agent.workspace import Workspace

CommitArgument = Annotated[str, Field(description="A commit: a hash from history_log, HEAD, or HEAD~1", max_length=80)]
OptionalPath = Annotated[str | None, Field(description="Only this file or folder", max_length=512)]


class CommitShape(TypedDict):
    """One commit."""

    commit: str
    time: str
    author: str
    message: str
    paths: list[str]


class ShownShape(CommitShape):
    """One commit; `complete` is false if the patch was cut. `content` is that of the named file, if one was named."""

    diff: str
    complete: bool
    content: str | None


class LogShape(TypedDict):
    """Commits, newest first."""

    commits: list[CommitShape]


class DiffShape(TypedDict):
    """A patch; `complete` is false if it was cut."""

    diff: str
    complete: bool


class HistoryTools:
    """Log, show, diff and restore."""

    def __init__(self, workspace: Workspace) -> None:
        self._repository = workspace.repository

    @tool("Show the history", READS)
    async def history_log(
        self, path: OptionalPath = None, limit: Annotated[int, Field(description="How many commits at most", ge=1, le=1000)] = 50
    ) -> LogShape:
        """List the commits of the workspace, newest first, with the files that each changed."""
        commits = await history.log(self._repository, path, limit)
        return LogShape(
            commits=[
                CommitShape(commit=entry.commit, time=entry.time, author=entry.author, message=entry.message, paths=entry.paths)
                for entry in commits
            ]
        )

    @tool("Show a commit", READS)
    async def history_show(self, commit: CommitArgument = "HEAD", path: OptionalPath = None) -> ShownShape:
        """Show one commit: its message, the files that it changed and how, and the content that a named file had at that commit."""
        entry, patch, cut, content = await history.show(self._repository, commit, path)
        return ShownShape(
            commit=entry.commit,
            time=entry.time,
            author=entry.author,
            message=entry.message,
            paths=entry.paths,
            diff=patch,
            complete=not cut,
            content=content,
        )

    @tool("Compare commits", READS)
    async def history_diff(self, older: CommitArgument = "HEAD~1", newer: CommitArgument = "HEAD", path: OptionalPath = None) -> DiffShape:
        """Show what changed between two commits as a patch."""
        text, cut = await history.diff(self._repository, older, newer, path)
        return DiffShape(diff=text, complete=not cut)

    @tool("Restore a file", REPLACES)
    async def history_restore(self, path: Path, commit: CommitArgument) -> SavedShape:
        """Make a file again what it was at a commit. This is a new commit: nothing of the history is lost."""
        change = await history.restore(self._repository, path, commit)
        return SavedShape(path=path, commit=change.commit, changed=change.changed)
