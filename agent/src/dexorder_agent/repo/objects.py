"""Writes git's objects for the contents of files: without a process for each, so that many can be synced at the same time."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from pathlib import Path

from dexorder_agent.repo.files import sync_folder

HALF_WRITTEN = "tmp_obj_"
"""As git names them itself: the next start removes what a crash has left."""


def name(content: bytes, algorithm: str) -> str:
    """The name of the content as an object."""
    return hashlib.new(algorithm, _headed(content), usedforsecurity=False).hexdigest()


def write(git_folder: Path, content: bytes, algorithm: str) -> str:
    """Have the content on the disk as an object; its name."""
    named = name(content, algorithm)
    folder = git_folder / "objects" / named[:2]
    target = folder / named[2:]
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
    if not target.exists():
        descriptor, temporary = tempfile.mkstemp(prefix=HALF_WRITTEN, dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(zlib.compress(_headed(content), 1))
                file.flush()
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
            os.rename(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    sync_folder(folder)
    return named


def _headed(content: bytes) -> bytes:
    return b"blob %d\0" % len(content) + content
