"""The user's own git remote: the repository is copied from it once, and kept in step with it in the background.

Nothing of the remote is ever overwritten. What was committed on both sides is merged; where that isn't possible the workspace's side is
pushed to a branch of its own.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dexorder_agent.background import Background
from dexorder_agent.errors import WorkspaceError
from dexorder_agent.log import event
from dexorder_agent.repo.git import Git, GitError

if TYPE_CHECKING:
    from dexorder_agent.repo.repository import Repository

logger = logging.getLogger(__name__)

QUIET_SECONDS = 1.0
"""Changes that come within this time are pushed together."""
RETRY_SECONDS = (5, 15, 60, 300)
GIT_SECONDS = 60.0
ROUNDS = 4
SCHEMES = ("https", "http", "ssh", "git", "file")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where the remote is, and the folder with the files `username` and `password`, or `ssh-privatekey`, that open it.

    `known_hosts` keeps the host keys that were seen, where the credentials come without those that are right.
    """

    url: str
    branch: str
    own_branch: str
    credentials: Path | None
    known_hosts: Path


class Remote:
    """Pushes and merges. One exchange at a time."""

    def __init__(self, place: Elsewhere, author: str, *, only_copied: bool = False) -> None:
        self._place = place
        self._only_copied = only_copied
        """Whether nothing ever goes there."""
        self._author = author
        self._lock = asyncio.Lock()
        self._asked = asyncio.Event()
        self._background = Background()
        self.pushed: str | None = None
        self.problem: str | None = None

    async def copy_to(self, folder: Path) -> bool:
        """Put the remote's branch into a new folder; False if the remote has no such branch yet."""
        git = Git(folder, self._author)
        await git.run("init", "--quiet", "--template=", f"--initial-branch={self._place.branch}")
        theirs = await self._theirs(git)
        if theirs is None:
            return False
        await self._fetch(git, "-c", "core.fsync=none")
        await git.run("-c", "core.fsync=none", "reset", "--quiet", "--hard", theirs)
        self.pushed = theirs
        return True

    def follow(self, repository: Repository) -> None:
        """Get in step soon, in the background."""
        if self._only_copied:
            return
        self._asked.set()
        self._background.start(lambda: self._follow(repository))

    async def close(self) -> None:
        """Stop what goes on in the background."""
        await self._background.close()

    async def _follow(self, repository: Repository) -> None:
        failures = 0
        while self._asked.is_set():
            await asyncio.sleep(QUIET_SECONDS if failures == 0 else RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1])
            self._asked.clear()
            if await self.step(repository):
                failures = 0
            else:
                failures += 1
                self._asked.set()

    async def step(self, repository: Repository) -> bool:
        """Get in step now; False, with the reason in `problem`, if the remote can't be reached."""
        if self._only_copied:
            return True
        async with self._lock:
            try:
                await repository.opened()
                for _ in range(ROUNDS):
                    if await self._round(repository):
                        return True
                self.problem = "the remote changes faster than it can be followed"
            except (GitError, WorkspaceError, OSError, TimeoutError) as error:
                self.problem = redacted(str(error) or "the remote took too long to answer")
                event(logger, "the remote could not be reached")
            return False

    async def _round(self, repository: Repository) -> bool:
        """One look at the remote and what follows from it; False if it must be looked at again."""
        git, ours = repository.git, repository.head()
        theirs = await self._theirs(git)
        if ours is None:
            raise WorkspaceError("the repository has no commit yet")
        if theirs is not None and theirs != ours:
            if not await _has(git, theirs):
                await self._fetch(git)
            if not await _contains(git, ours, theirs):
                merged = theirs if await _contains(git, theirs, ours) else await self._merged(git, ours, theirs)
                if merged is None:
                    return await self._push_aside(git, ours)
                await repository.advance(ours, merged, "merged with the remote")
                return False
            try:
                await self._push(git, ours, self._place.branch)
            except GitError as error:
                if "[rejected]" in str(error) or "fetch first" in str(error):
                    return False
                raise
        elif theirs is None:
            await self._push(git, ours, self._place.branch)
        self.pushed, self.problem = ours, None
        return True

    async def _merged(self, git: Git, ours: str, theirs: str) -> str | None:
        """A commit that joins both sides, None if they contradict each other. Touches no file."""
        output = await git.run("merge-tree", "--write-tree", "--allow-unrelated-histories", "--no-messages", ours, theirs, ok=(0, 1))
        tree, _, conflicts = output.partition("\n")
        if conflicts.strip():
            return None
        message = f"Merge branch {self._place.branch} of the remote"
        return (await git.run("commit-tree", "-p", ours, "-p", theirs, "-m", message, tree.strip())).strip()

    async def _push_aside(self, git: Git, ours: str) -> bool:
        """Keep the workspace's side on a branch of its own until a person has joined the two."""
        branch = self._place.own_branch
        try:
            await self._push(git, ours, branch)
        except GitError as error:
            if "[rejected]" not in str(error):
                raise
            branch = f"{branch}-{ours[:12]}"
            await self._push(git, ours, branch)
        self.pushed = ours
        self.problem = (
            f"branch {self._place.branch} of the remote contradicts the workspace, whose side is on the remote's branch {branch}: "
            f"merge the two there"
        )
        event(logger, "the remote contradicts the workspace", branch=branch)
        return True

    async def _push(self, git: Git, commit: str, branch: str) -> None:
        await self._exchange(git, "push", "--quiet", "--porcelain", self._place.url, f"{commit}:refs/heads/{branch}")

    async def _fetch(self, git: Git, *settings: str) -> None:
        """Get the commits of the remote's branch."""
        branch = f"refs/heads/{self._place.branch}"
        await self._exchange(git, *settings, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", self._place.url, branch)

    async def _theirs(self, git: Git) -> str | None:
        """The newest commit of the remote's branch."""
        output = await self._exchange(git, "ls-remote", "--heads", self._place.url, f"refs/heads/{self._place.branch}")
        return output.split()[0] if output.strip() else None

    async def _exchange(self, git: Git, *command: str) -> str:
        """A git command that talks to the remote."""
        try:
            async with asyncio.timeout(GIT_SECONDS):
                return await git.run(*self._settings(), *command)
        except TimeoutError:
            raise WorkspaceError(f"the remote took longer than {GIT_SECONDS:g} s to answer") from None

    def _settings(self) -> list[str]:
        """Settings that let git reach the remote. They name the files of the credentials, never what is in them."""
        settings = {f"protocol.{scheme}.allow": "always" for scheme in SCHEMES}
        settings |= {"http.lowSpeedLimit": "100", "http.lowSpeedTime": "20", "http.followRedirects": "false", "credential.helper": ""}
        found = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        folder = self._place.credentials
        ssh = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "GlobalKnownHostsFile=none"]
        known_hosts, unknown = self._place.known_hosts, "accept-new"
        if folder is not None:
            user, password = (shlex.quote(str(folder / name)) for name in ("username", "password"))
            if (folder / "password").is_file():
                known = (
                    f'if test -f {user}; then echo "username=$(cat {user})"; else echo username=git; fi; echo "password=$(cat {password})"'
                )
                found += ["-c", f'credential.helper=!f() {{ if test "$1" = get; then {known}; fi; }}; f']
            if (folder / "ssh-privatekey").is_file():
                ssh += ["-o", "IdentitiesOnly=yes", "-i", str(folder / "ssh-privatekey")]
            if (folder / "known_hosts").is_file():
                known_hosts, unknown = folder / "known_hosts", "yes"
        ssh += ["-o", f"UserKnownHostsFile={known_hosts}", "-o", f"StrictHostKeyChecking={unknown}"]
        return [*found, "-c", f"core.sshCommand={shlex.join(ssh)}"]


async def _has(git: Git, commit: str) -> bool:
    """Whether a commit is in the repository."""
    try:
        await git.run("cat-file", "-e", f"{commit}^{{commit}}")
    except GitError:
        return False
    return True


async def _contains(git: Git, commit: str, older: str) -> bool:
    """Whether a commit has another in its history."""
    try:
        await git.run("merge-base", "--is-ancestor", older, commit)
    except GitError as error:
        if error.code == 1:
            return False
        raise
    return True


def redacted(text: str) -> str:
    """Without the user and password that an address may hold."""
    return re.sub(r"//[^/@\s]*@", "//", text)
