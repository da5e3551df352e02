"""Keeps every path of a caller inside the repository."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from dexorder_agent.errors import WorkspaceError

MAX_LENGTH = 512


def confine(root: Path, text: str) -> Path:
    """The absolute path of `text` under `root`. Refuses what leads outside, into git's own folder, or over a link."""
    shown = repr(text[:120])
    if not text or len(text) > MAX_LENGTH or "\0" in text or "\\" in text:
        raise WorkspaceError(f"path {shown} can't be used: write a path like indicators/rsi.py")
    pure = PurePosixPath(text)
    if pure.is_absolute() or ".." in pure.parts:
        raise WorkspaceError(f"path {shown} leads outside the repository: write it relative to the repository, without ..")
    for part in pure.parts:
        # Other spellings name the same folder on file systems that ignore case.
        if part.lower().rstrip(". ") == ".git" or part.startswith(TEMPORARY_PREFIX):
            raise WorkspaceError(f"path {shown} can't be used: {part} belongs to the workspace itself")
        if any(ord(character) < 32 or ord(character) == 127 for character in part):
            raise WorkspaceError(f"path {shown} can't be used: it has control characters")
    path = root
    for part in pure.parts:
        path = path / part
        if path.is_symlink():
            raise WorkspaceError(f"path {shown} goes over a symbolic link, which is not followed")
    return path


TEMPORARY_PREFIX = ".dexorder-tmp-"
"""Files of this name are half-written; the next start removes them."""
