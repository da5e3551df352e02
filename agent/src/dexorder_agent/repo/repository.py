"""The repository as the rest of the agent uses it: reads from files, and changes that are durable when they return."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.log import event
from dexorder_agent.repo import files, recover, seed
from dexorder_agent.repo.commit import Committer, Made
from dexorder_agent.repo.git import Git, GitError
from dexorder_agent.repo.group import Edit, Edits, Member
from dexorder_agent.repo.pack import COMMITS, Packer
from dexorder_agent.repo.paths import confine
from dexorder_agent.repo.remote import Remote, redacted

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 2 * 1024 * 1024

SEED_RETRY_SECONDS = 2.0
MAX_GROUP = 128
"""So many changes share a commit at most."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change that is committed and on the disk."""

    commit: str
    changed: bool


class Repository:
    """The user's repository. One writer at a time; readers never wait for a writer."""

    def __init__(self, root: Path, author: str, remote: Remote | None = None, *, frozen: bool = False, pack_after: int = COMMITS) -> None:
        self.remote = remote
        self.root = root
        self.git = Git(root, author)
        self.packer = Packer(self.git, pack_after)
        self._committer = Committer(self.git)
        self._frozen = frozen
        self._lock = asyncio.Lock()
        self._opened = asyncio.Event()
        self._failure: str | None = None
        self._waiting: list[tuple[Member, asyncio.Future[Change]]] = []
        self._writer: asyncio.Task[None] | None = None
        self.recovery_due = asyncio.Event()
        """Set when the recovery may begin: by the first writer, or by whoever knows that the first request is answered."""
        self.listeners: list[Callable[[frozenset[str]], None]] = []
        """Told the paths of each committed change."""

    async def open(self) -> None:
        """Make or recover the repository. Readers go on as soon as it is in place, writers after the recovery."""
        async with self._lock:
            try:
                if seed.missing(self.root):
                    await self._make()
                    self._opened.set()
                    return
                self._opened.set()
                if self._frozen:
                    return
                await self.recovery_due.wait()
                recovered = await recover.recover(self.git)
                if recovered:
                    event(logger, "uncommitted changes recovered", commit=self.head())
            except (OSError, GitError) as error:
                self._failure = f"the repository can't be used: {error}"
                self._opened.set()
                logger.exception("repository can't be used")

    async def _make(self) -> None:
        """Make the repository, from the remote if there is one: as long as that can't be reached there is none."""
        while True:
            try:
                await seed.seed(self.root, self.git.author, None if self.remote is None else self.remote.copy_to)
            except (GitError, WorkspaceError) as error:
                if self.remote is None:
                    raise
                reason = redacted(str(error))
                self._failure = f"the repository can't be copied from its remote, which is tried again and again: {reason}"
                self._opened.set()
                logger.warning("the repository can't be copied from its remote")
                await asyncio.sleep(SEED_RETRY_SECONDS)
                continue
            event(logger, "repository made")
            if self._failure is not None:
                self._failure = None
                self._tell((await self.git.run("ls-files", "-z")).split("\0"))
            return

    async def opened(self) -> None:
        """Wait until the repository is in place; an error if that failed."""
        await self._opened.wait()
        if self._failure is not None:
            raise WorkspaceError(self._failure)

    @property
    def usable(self) -> bool:
        """Whether it is in place, as far as is known by now."""
        return self._failure is None

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
        return await self.update(message, lambda _: edits)

    async def update(self, message: str, edit: Edit) -> Change:
        """Apply the edits that `edit` makes while no other writer is at work, and commit them.

        Changes that come while a commit is under way wait for it and then share the next one.
        """
        await self.opened()
        if self._frozen:
            raise WorkspaceError("the workspace can't be changed: its volume is read-only")
        self.recovery_due.set()
        done: asyncio.Future[Change] = asyncio.get_running_loop().create_future()
        self._waiting.append((Member(message, edit), done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        # A call that is cancelled doesn't tear a change apart: the writer goes on.
        return await done

    async def _write(self) -> None:
        """Commit group after group until nothing waits."""
        try:
            while self._waiting:
                # Calls that are about to ask in this turn of the loop get into this group.
                await asyncio.sleep(0)
                async with self._lock:
                    taken, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
                    failure: Exception | None = None
                    try:
                        made = await self._commit([member for member, _ in taken])
                    except Exception as error:
                        failure = error
                for member, done in taken:
                    if done.done():
                        continue
                    problem = member.error or failure
                    if problem is not None:
                        done.set_exception(problem)
                    else:
                        changed = made.moved and (member.differs or not any(other.differs for other, _ in taken))
                        done.set_result(Change(made.commit, changed))
                if failure is None and made.moved:
                    self._tell(made.paths)
        finally:
            self._writer = None

    async def _commit(self, members: list[Member]) -> Made:
        try:
            return await asyncio.to_thread(self._committer.commit, members)
        except GitError as error:
            raise WorkspaceError(f"the change can't be committed: {error}") from error
        except OSError as error:
            raise WorkspaceError(f"the change can't be committed: {error.strerror or error}") from error

    def _tell(self, paths: Iterable[str]) -> None:
        changed = frozenset(paths)
        self.packer.committed()
        if self.remote is not None:
            self.remote.follow(self)
        for listener in self.listeners:
            listener(changed)

    async def _durable_head(self) -> str:
        await asyncio.to_thread(files.sync_folder, self.root / ".git" / "refs" / "heads")
        commit = self.head()
        if commit is None:
            raise WorkspaceError("the repository has no commit")
        return commit

    async def advance(self, expected: str, commit: str, why: str) -> bool:
        """Go on from the expected commit to one that has it in its history; False if there are newer changes now."""
        await self.opened()
        self.recovery_due.set()
        async with self._lock:
            await recover.commit_all(self.git, "Save the workspace")
            if self.head() != expected:
                return False
            paths = await self._between(expected, commit)
            # The files are on the disk before the branch says so; what a crash leaves between is committed at the next start.
            await self.git.run("update-index", "-q", "--refresh", ok=(0, 1))
            await self.git.run("read-tree", "-m", "-u", expected, commit)
            await asyncio.to_thread(files.sync, [self.root / path for path in paths])
            await self.git.run("update-ref", "-m", why, "HEAD", commit, expected)
            await self._durable_head()
        self._tell(paths)
        return True

    async def save(self) -> Change:
        """Commit whatever is uncommitted."""
        await self.opened()
        if self._frozen:
            return Change(self.head() or "", False)
        self.recovery_due.set()
        return await asyncio.shield(asyncio.ensure_future(self._save()))

    async def _save(self) -> Change:
        async with self._lock:
            before = self.head()
            changed = await recover.commit_all(self.git, "Save the workspace")
            commit = await self._durable_head()
            if changed:
                self._tell(await self._between(before, commit))
            return Change(commit, changed)

    async def _between(self, before: str | None, after: str) -> list[str]:
        """The paths that differ between two commits."""
        if before is None:
            return []
        return [path for path in (await self.git.run("diff", "--name-only", "--no-renames", "-z", before, after)).split("\0") if path]
