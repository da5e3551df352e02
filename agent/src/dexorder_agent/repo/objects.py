"""Reads and writes git's objects: without a process for each, so that many can be synced at the same time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import zlib
from pathlib import Path

from dexorder_agent.repo.git import Git, GitError

HALF_WRITTEN = "tmp_obj_"
"""As git names them itself: the next start removes what a crash has left."""

SHA256_DIGITS = 64


def algorithm(name: str | None) -> str:
    """What names the objects of a repository that has an object of this name."""
    return "sha256" if len(name or "") == SHA256_DIGITS else "sha1"


class Pending:
    """An object that is to be on the disk, in three steps. It is there already if another had the same content."""

    def __init__(self, git_folder: Path, kind: str, content: bytes, hashed: str) -> None:
        self._whole = b"%s %d\0" % (kind.encode(), len(content)) + content
        self.name = hashlib.new(hashed, self._whole, usedforsecurity=False).hexdigest()
        self.folder = git_folder / "objects" / self.name[:2]
        self._target = self.folder / self.name[2:]
        self._temporary: str | None = None
        self.made_folder = False

    def write(self) -> None:
        """Have the content on the disk, under a temporary name."""
        if self._target.exists():
            return
        try:
            self.folder.mkdir()
            self.made_folder = True
        except FileExistsError:
            pass
        descriptor, self._temporary = tempfile.mkstemp(prefix=HALF_WRITTEN, dir=self.folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(zlib.compress(self._whole, 1))
            file.flush()
            os.fchmod(descriptor, 0o444)
            os.fsync(descriptor)

    def place(self) -> None:
        """Move it to its place. The folder is to be synced then."""
        if self._temporary is not None:
            os.rename(self._temporary, self._target)
            self._temporary = None

    def discard(self) -> None:
        """Remove it, unless it is in its place."""
        if self._temporary is not None:
            Path(self._temporary).unlink(missing_ok=True)


def read(git: Git, kind: str, name: str) -> bytes:
    """The content of an object. Git itself is asked for what is in a pack."""
    try:
        whole = zlib.decompress((git.folder / ".git" / "objects" / name[:2] / name[2:]).read_bytes())
    except FileNotFoundError:
        command = ["cat-file", kind, name]
        done = subprocess.run(["git", *command], cwd=git.folder, env=git.environment, capture_output=True, check=False)
        if done.returncode != 0:
            raise GitError(command, done.returncode, done.stderr.decode("utf-8", "replace")) from None
        return done.stdout
    except zlib.error as error:
        raise GitError(["cat-file", kind, name], 1, f"the object is damaged: {error}") from error
    heading, _, content = whole.partition(b"\0")
    if not heading.startswith(kind.encode()):
        raise GitError(["cat-file", kind, name], 1, f"the object is no {kind}")
    return content
