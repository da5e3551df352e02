"""Puts a repository in order that an interruption left in the middle of something."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dexorder_agent.repo import files, pack
from dexorder_agent.repo.git import Git, GitError

RECOVERED = "Keep recovered changes that an interruption left uncommitted"


async def recover(git: Git) -> bool:
    """Remove what is stale and commit what is uncommitted; returns whether there was anything to commit."""
    # The volume has one user at a time, so a lock file that is here at the start has no owner any more.
    await asyncio.to_thread(_remove_stale, git.folder)
    if not (git.folder / ".git").is_dir():
        await git.run("init", "--quiet", "--template=", "--initial-branch=main")
    return await commit_all(git, RECOVERED)


async def commit_all(git: Git, message: str) -> bool:
    """Commit everything that differs from the last commit; returns whether anything did."""
    try:
        status = await git.run("status", "--porcelain", "--untracked-files=all")
    except GitError:
        # A power cut may have emptied the index. It holds nothing that the files and the last commit don't.
        (git.folder / ".git" / "index").unlink(missing_ok=True)
        if git.head() is not None:
            await git.run("read-tree", "HEAD")
        status = await git.run("status", "--porcelain", "--untracked-files=all")
    if not status:
        return False
    await git.run("add", "--all")
    await git.run("commit", "--quiet", "--message", message, ok=(0, 1))
    return True


def _remove_stale(root: Path) -> None:
    folder = root / ".git"
    for places in ("*.lock", "refs/**/*.lock", "objects/*.lock", "objects/info/**/*.lock"):
        for lock in folder.glob(places):
            lock.unlink(missing_ok=True)
    for half in folder.glob("objects/*/tmp_obj_*"):
        half.unlink(missing_ok=True)
    pack.remove_half_written(folder / "objects")
    files.remove_temporary(root)
