"""The repository as the rest of the agent uses it: reads from files, and changes that are durable when they return."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.log import event
from dexorder_agent.repo import files, recover, seed
from dexorder_agent.repo.git import Git, GitError
from dexorder_agent.repo.paths import confine

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 2 * 1024 * 1024

Edits = Mapping[str, bytes | None]
"""New contents by path; None removes the file."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change that is committed and on the disk."""

    commit: str
    changed: bool


class Repository:
    """The user's repository. One writer at a time; readers never wait for a writer."""

    def __init__(self, root: Path, author: str) -> None:
        self.root = root
        self.git = Git(root, author)
        self._author = author
        self._lock = asyncio.Lock()
        self._opened = asyncio.Event()
        self._failure: str | None = None

    async def open(self) -> None:
        """Make or recover the repository. Readers go on as soon as it is in place, writers after the recovery."""
        async with self._lock:
            try:
                if seed.missing(self.root):
                    await seed.seed(self.root, self._author)
                    event(logger, "repository made")
                    self._opened.set()
                    return
                self._opened.set()
                recovered = await recover.recover(self.git)
                if recovered:
                    event(logger, "uncommitted changes recovered", commit=self.head())
            except (OSError, GitError) as error:
                self._failure = f"the repository can't be used: {error}"
                self._opened.set()
                logger.exception("repository can't be used")

    async def opened(self) -> None:
        """Wait until the repository is in place; an error if that failed."""
        await self._opened.wait()
        if self._failure is not None:
            raise WorkspaceError(self._failure)

    def head(self) -> str | None:
        """The newest commit."""
        return self.git.head()

    async def read(self, path: str) -> bytes | None:
        """The content of a file, None if there is none."""
        await self.opened()
        target = confine(self.root, path)
        try:
            with target.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError:
            raise WorkspaceError(f"{path} is a folder: name a file in it") from None
        if len(content) > MAX_FILE_BYTES:
            raise WorkspaceError(f"{path} is larger than {MAX_FILE_BYTES} bytes, the most that can be read")
        return content

    async def change(self, message: str, edits: Edits) -> Change:
        """Apply the edits and commit them."""
        return await self.update(message, lambda: edits)

    async def update(self, message: str, edit: Callable[[], Edits]) -> Change:
        """Apply the edits that `edit` makes while no other writer is at work, and commit them."""
        await self.opened()
        # A call that is cancelled in the middle doesn't tear a change apart.
        return await asyncio.shield(asyncio.ensure_future(self._update(message, edit)))

    async def _update(self, message: str, edit: Callable[[], Edits]) -> Change:
        async with self._lock:
            edits = edit()
            targets = {path: confine(self.root, path) for path in edits}
            try:
                await asyncio.to_thread(_apply, targets, edits)
            except OSError as error:
                raise WorkspaceError(f"{', '.join(edits)} can't be written: {error.strerror}") from error
            before = self.head()
            commit = await self._commit(message, list(edits))
            return Change(commit, commit != before)

    async def _commit(self, message: str, paths: list[str]) -> str:
        try:
            await self.git.run("add", "--all", "--force", "--", *[p for p in paths if await self._known(p)])
            await self.git.run("commit", "--quiet", "--message", message, "--", *paths, ok=(0, 1))
        except GitError as error:
            raise WorkspaceError(f"the change is written but can't be committed: {error}") from error
        return await self._durable_head()

    async def _known(self, path: str) -> bool:
        """Whether git can add the path: it refuses one that is neither on the disk nor in the index."""
        return (self.root / path).exists() or bool(await self.git.run("ls-files", "--", path))

    async def _durable_head(self) -> str:
        await asyncio.to_thread(files.sync_folder, self.root / ".git" / "refs" / "heads")
        commit = self.head()
        if commit is None:
            raise WorkspaceError("the repository has no commit")
        return commit

    async def save(self) -> Change:
        """Commit whatever is uncommitted."""
        await self.opened()
        return await asyncio.shield(asyncio.ensure_future(self._save()))

    async def _save(self) -> Change:
        async with self._lock:
            changed = await recover.commit_all(self.git, "Save the workspace")
            return Change(await self._durable_head(), changed)


def _apply(targets: Mapping[str, Path], edits: Edits) -> None:
    for path, target in targets.items():
        content = edits[path]
        if content is None:
            if target.exists():
                files.remove(target)
        elif not target.is_file() or target.read_bytes() != content:
            files.write(target, content)
