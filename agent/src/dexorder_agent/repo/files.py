"""Writes that a kill or a power cut can't leave half done."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from dexorder_agent.repo.paths import TEMPORARY_PREFIX


def prepare(path: Path, content: bytes) -> str:
    """Have the content on the disk beside the place of the file, under a temporary name, which is returned."""
    make_folder(path.parent)
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def make_folder(folder: Path) -> None:
    """Have a folder, with those above it, on the disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync(paths: Iterable[Path]) -> None:
    """Have files that something else wrote on the disk, with their names."""
    folders = set()
    for path in paths:
        folders.add(path.parent)
        if path.is_file() and not path.is_symlink():
            sync_file(path)
    for folder in folders:
        if folder.is_dir():
            sync_folder(folder)


def sync_file(path: str | Path) -> None:
    """Have what is in a file on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporary(root: Path) -> int:
    """Remove what interrupted writes left; returns how many files that were."""
    removed = 0
    for folder, folders, names in os.walk(root):
        if ".git" in folders:
            folders.remove(".git")
        for name in names:
            if name.startswith(TEMPORARY_PREFIX):
                os.unlink(os.path.join(folder, name))
                removed += 1
    return removed
