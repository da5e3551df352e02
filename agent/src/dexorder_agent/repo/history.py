"""Looks into the repository's history and brings old contents back."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dexorder_agent.errors import NotFoundError, WorkspaceError
from dexorder_agent.repo.git import GitError
from dexorder_agent.repo.paths import confine
from dexorder_agent.repo.repository import MAX_FILE_BYTES, Change, Repository

MAX_DIFF_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry of the log."""

    commit: str
    time: str
    author: str
    message: str
    paths: list[str]


async def log(repository: Repository, path: str | None, limit: int) -> list[Commit]:
    """The newest commits, of all files or of one."""
    await repository.opened()
    command = ["log", f"--max-count={limit}", "--format=%x01%H%x00%aI%x00%an%x00%s%x00", "--name-only", "-z"]
    if path is not None:
        confine(repository.root, path)
        command += ["--", path]
    return [_commit(entry) for entry in (await repository.git.run(*command)).split("\x01")[1:]]


def _commit(entry: str) -> Commit:
    commit, time, author, message, rest = entry.split("\0", 4)
    paths = [name.strip("\n") for name in rest.split("\0") if name.strip("\n")]
    return Commit(commit, time, author, message.strip("\n"), paths)


async def show(repository: Repository, commit: str, path: str | None) -> tuple[Commit, str, bool, str | None]:
    """One commit with its whole message, its patch, whether that was cut, and the content of the file at that commit if one is named."""
    await repository.opened()
    found = await resolve(repository, commit)
    command = ["-c", "core.quotePath=false", "show", "--first-parent", "--diff-merges=first-parent"]
    entry = await repository.git.run(*command, "--format=%x01%H%x00%aI%x00%an%x00%B%x00", "--name-only", "-z", found)
    only: list[str] = []
    content: str | None = None
    if path is not None:
        confine(repository.root, path)
        only = ["--", path]
        content = await _text_at(repository, found, path)
    patch = await repository.git.run(*command, "--no-ext-diff", "--no-textconv", "--no-color", "--format=", found, *only)
    return _commit(entry.split("\x01")[1]), patch[:MAX_DIFF_CHARACTERS], len(patch) > MAX_DIFF_CHARACTERS, content


async def _text_at(repository: Repository, commit: str, path: str) -> str:
    data = await _blob(repository, commit, path)
    if data is None:
        raise NotFoundError(f"{path} doesn't exist at commit {commit[:12]}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise WorkspaceError(f"{path} is not text in UTF-8 at commit {commit[:12]}") from None


async def _blob(repository: Repository, commit: str, path: str) -> bytes | None:
    """A file's content at a commit, None if it wasn't there."""
    kind = (await repository.git.run("ls-tree", "--format=%(objectmode) %(objecttype) %(objectsize)", commit, "--", path)).split()
    if not kind:
        return None
    if kind[:2] not in (["100644", "blob"], ["100755", "blob"]):
        raise WorkspaceError(f"{path} is not a file at {commit[:12]}: name one file")
    if int(kind[2]) > MAX_FILE_BYTES:
        raise WorkspaceError(f"{path} is larger than {MAX_FILE_BYTES} bytes, the most that can be read")
    return await repository.git.run_bytes("cat-file", "blob", f"{commit}:{path}")


async def diff(repository: Repository, older: str, newer: str, path: str | None) -> tuple[str, bool]:
    """What changed between two commits, as a patch, and whether it was cut because it is too long."""
    await repository.opened()
    first, second = await resolve(repository, older), await resolve(repository, newer)
    command = ["diff", "--no-ext-diff", "--no-textconv", "--no-color", first, second]
    if path is not None:
        confine(repository.root, path)
        command += ["--", path]
    text = await repository.git.run(*command)
    return text[:MAX_DIFF_CHARACTERS], len(text) > MAX_DIFF_CHARACTERS


async def restore(repository: Repository, path: str, commit: str) -> Change:
    """Make a file again what it was at a commit: its content, or absent if it wasn't there."""
    await repository.opened()
    confine(repository.root, path)
    found = await resolve(repository, commit)
    content = await _blob(repository, found, path)
    if content is None and await repository.read(path) is None:
        raise NotFoundError(f"{path} is neither in the workspace now nor at commit {commit}")
    return await repository.change(f"Restore {path} from {found[:12]}", {path: content})


async def resolve(repository: Repository, commit: str) -> str:
    """The full hash of a commit given as a hash, part of one, or HEAD with ~N."""
    if re.fullmatch(r"(HEAD|[0-9a-f]{4,64})(~[0-9]{1,6})?", commit) is None:
        raise WorkspaceError(f"commit {commit[:80]!r} can't be used: write a hash from history_log, HEAD, or HEAD~1")
    try:
        output = await repository.git.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
        return output.strip()
    except GitError:
        raise NotFoundError(f"commit {commit} doesn't exist: history_log lists the commits") from None
