"""Holds a file of git's as git does: whoever makes NAME.lock may replace NAME."""

from __future__ import annotations

import os
from pathlib import Path

from dexorder_agent.repo.git import GitError


class Lock:
    """One file that no other process replaces meanwhile. What is to take its place is written to the lock."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self.path = target.with_name(f"{target.name}.lock")
        try:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            raise GitError(["commit"], 128, f"{self.path.name} exists: another git works on the repository") from None
        self._held = True

    def write(self, content: bytes) -> None:
        """Write the new content; it is not synced."""
        with os.fdopen(os.dup(self._descriptor), "wb") as file:
            file.write(content)

    def sync(self) -> None:
        """Have the new content on the disk."""
        os.fsync(self._descriptor)

    def replace(self) -> None:
        """Put the new content into the file's place."""
        os.rename(self.path, self._target)
        self._held = False

    def release(self) -> None:
        """Let go. What was not put into its place is dropped."""
        os.close(self._descriptor)
        if self._held:
            self.path.unlink(missing_ok=True)
