"""Commits groups of changes without a process of git's: new files, objects and branch reach the disk in three steps.

1. All that is new is written under other names and synced, at the same time.
2. It is moved to its places, and the folders are synced: the objects are there now, and nothing points to them yet.
3. The branch is moved to the new commit, and its folder synced.

A power cut leaves the old commit or the new one, whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache, partial

from dexorder_agent.repo import files, group, objects
from dexorder_agent.repo.git import COMMITTER, Git, GitError, identity
from dexorder_agent.repo.group import Draft, Member, PathError
from dexorder_agent.repo.index import Index, UnknownIndexError
from dexorder_agent.repo.locks import Lock
from dexorder_agent.repo.objects import Pending
from dexorder_agent.repo.trees import Entries, Trees

logger = logging.getLogger(__name__)

SYNCS = 16
"""So much is synced at the same time."""


@dataclass(frozen=True, slots=True)
class Made:
    """What became of a group: the files that it named, the newest commit, and whether that is a new one."""

    paths: list[str]
    commit: str
    moved: bool


class Committer:
    """Commits to one repository. One commit at a time."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._folder = git.folder / ".git"
        self._index = Index(self._folder)
        self._trees: dict[str, Entries] = {}
        self._newest: tuple[str, str] = ("", "")
        """The newest commit and its tree."""
        self._settled = False
        """Whether the folders of objects are all known to be on the disk."""

    def commit(self, members: list[Member]) -> Made:
        """Commit the changes; one that can't be made gets its error, and the others are committed without it."""
        while True:
            draft = group.draft(self._git.folder, members)
            try:
                return self._commit(draft, [member for member in members if member.error is None])
            except PathError as error:
                group.fail(members, error)
            finally:
                draft.discard()

    def _commit(self, draft: Draft, members: list[Member]) -> Made:
        before = self._git.head()
        if not draft.contents:
            return Made([], before or "", False)
        hashed = objects.algorithm(before)
        new: list[Pending] = []

        def write(kind: str, content: bytes) -> str:
            new.append(Pending(self._folder, kind, content, hashed))
            return new[-1].name

        try:
            named = {path: None if content is None else write("blob", content) for path, content in draft.contents.items()}
            older = None if before is None else self._tree_of(before)
            trees = Trees(lambda name: objects.read(self._git, "tree", name), lambda content: write("tree", content), self._trees)
            tree = trees.change(older, named)
            if tree == older and before is not None:
                self._flush(draft, new)
                files.sync_folder((self._folder / self._git.reference()).parent)
                return Made(list(named), before, False)
            signed = f"{int(time.time())} +0000"
            message = _tidy(group.message(members))
            commit = write("commit", _commit_text(tree, before, self._git.author, signed, message))
            self._move(draft, new, before, commit, named, hashed)
        finally:
            for pending in new:
                pending.discard()
        self._newest = (commit, tree)
        self._note(before, commit, signed, message)
        return Made(list(named), commit, True)

    def _tree_of(self, commit: str) -> str:
        if self._newest[0] != commit:
            heading = objects.read(self._git, "commit", commit).split(b"\n", 1)[0]
            self._newest = (commit, heading.removeprefix(b"tree ").decode())
        return self._newest[1]

    def _move(
        self, draft: Draft, new: list[Pending], before: str | None, commit: str, named: Mapping[str, str | None], hashed: str
    ) -> None:
        """Have all that is new on the disk, and move the branch to the commit."""
        reference = self._folder / self._git.reference()
        files.make_folder(reference.parent)
        # The two locks that git takes, so that nobody else's git gets in between.
        with contextlib.ExitStack() as held:
            index = Lock(self._folder / "index")
            held.callback(index.release)
            branch = Lock(reference)
            held.callback(branch.release)
            if self._git.head() != before:
                raise GitError(["commit"], 1, "something else has moved the branch")
            branch.write(f"{commit}\n".encode())
            known = self._write_index(index, named, hashed)
            self._flush(draft, new, branch.sync)
            branch.replace()
            known = known and self._place_index(index)
            files.sync_folder(reference.parent)
        if not known:
            self._renew_index(commit)

    def _flush(self, draft: Draft, new: list[Pending], *more: Callable[[], None]) -> None:
        """The first two steps."""
        settled, self._settled = self._settled, False
        _at_once([*(partial(draft.write, path) for path in draft.contents), *(pending.write for pending in new), *more])
        for pending in new:
            pending.place()
        draft.place()
        folders = draft.folders | {pending.folder for pending in new}
        if not settled or any(pending.made_folder for pending in new):
            # A process that was killed may have made folders that it did not sync.
            folders.add(self._folder / "objects")
        _at_once(partial(files.sync_folder, folder) for folder in folders)
        self._settled = True

    def _write_index(self, lock: Lock, named: Mapping[str, str | None], hashed: str) -> bool:
        """Write the new index to its lock; False if that takes git itself."""
        try:
            lock.write(self._index.changed(named, hashed))
        except (OSError, UnknownIndexError):
            return False
        return True

    def _place_index(self, lock: Lock) -> bool:
        try:
            lock.replace()
            self._index.placed()
        except OSError:
            return False
        return True

    def _renew_index(self, commit: str) -> None:
        """Have git make the index anew. The commit is on the disk already, whatever becomes of this."""
        (self._folder / "index").unlink(missing_ok=True)
        done = subprocess.run(
            ["git", "read-tree", commit], cwd=self._git.folder, env=self._git.environment, capture_output=True, check=False
        )
        if done.returncode != 0:
            logger.warning("the index of the repository can't be made anew")

    def _note(self, before: str | None, commit: str, signed: str, message: str) -> None:
        """Add the commit to git's own logs of the branch, where it keeps them. They are not synced, as with git."""
        name, email = COMMITTER
        line = f"{before or '0' * len(commit)} {commit} {name} <{email}> {signed}\tcommit: {message.splitlines()[0]}\n"
        for log in {self._git.reference(), "HEAD"}:
            with contextlib.suppress(OSError):
                descriptor = os.open(self._folder / "logs" / log, os.O_WRONLY | os.O_APPEND)
                with os.fdopen(descriptor, "ab") as file:
                    file.write(line.encode("utf-8", "replace"))


def _tidy(message: str) -> str:
    """A message as git keeps it."""
    lines = [line.rstrip() for line in message.replace("\0", "").splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


def _commit_text(tree: str, parent: str | None, author: str, signed: str, message: str) -> bytes:
    (name, email), (committer, address) = identity(author), COMMITTER
    lines = [
        f"tree {tree}",
        *([f"parent {parent}"] if parent else []),
        f"author {name} <{email}> {signed}",
        f"committer {committer} <{address}> {signed}",
        "",
        message,
    ]
    return "\n".join(lines).encode("utf-8", "replace")


def _at_once(steps: Iterable[Callable[[], None]]) -> None:
    """Do all of it at the same time, which takes hardly longer than one; then raise what failed."""
    running = [_syncing().submit(step) for step in steps]
    wait(running)
    for done in running:
        done.result()


@cache
def _syncing() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(SYNCS, "sync")
