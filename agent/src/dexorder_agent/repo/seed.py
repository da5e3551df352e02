"""Makes the repository of a new user: complete or not there at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from dexorder_agent.repo.files import sync_file, sync_folder
from dexorder_agent.repo.git import Git
from dexorder_agent.repo.paths import TEMPORARY_PREFIX

SEED = Path(__file__).parent.parent / "seed"


def missing(repository: Path) -> bool:
    """Whether there is nothing yet at the repository's place (an empty folder is nothing)."""
    try:
        return next(os.scandir(repository), None) is None
    except FileNotFoundError:
        return True


async def seed(repository: Path, author: str, fill: Callable[[Path], Awaitable[bool]] | None) -> None:
    """Build the repository in a temporary folder beside its place, commit it, and move it there.

    `fill` may put another repository into the folder; False means that it has none.
    """
    parent = repository.parent
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    building = parent / f"{TEMPORARY_PREFIX}{os.getpid()}"
    building.mkdir(mode=0o755)
    if fill is None or not await fill(building):
        _copy(SEED, building)
        git = Git(building, author)
        await git.run("init", "--quiet", "--template=", "--initial-branch=main")
        # One flush of everything is faster than one for each object, and nothing is in place before it.
        fast = ("-c", "core.fsync=none")
        await git.run(*fast, "add", "--all")
        await git.run(*fast, "commit", "--quiet", "--message", "Start the workspace")
    _sync_tree(building)
    if repository.is_dir():
        repository.rmdir()
    building.rename(repository)
    sync_folder(parent)


def _copy(source: Path, target: Path) -> None:
    """Copy the seed with ordinary modes: in the image it is read-only and belongs to root."""
    target.mkdir(mode=0o755, exist_ok=True)
    for item in sorted(source.iterdir()):
        if item.name == "__pycache__":
            continue
        if item.is_dir():
            _copy(item, target / item.name)
        else:
            name = ".gitignore" if item.name == "gitignore" else item.name
            (target / name).write_bytes(item.read_bytes())


def _sync_tree(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            sync_file(os.path.join(folder, name))
        sync_folder(Path(folder))
