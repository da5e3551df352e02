"""Where the repository is, and what may be done to it: a visitor's volume may be mounted read-only, or hold nothing yet."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dexorder_agent.repo import seed


@dataclass(frozen=True, slots=True)
class Place:
    """The repository's folder. A frozen one is only read: nothing is written to it, not even a lock."""

    root: Path
    frozen: bool = False
    thrown_away: bool = False

    def remove(self) -> None:
        """Remove what nobody will look for again."""
        if self.thrown_away:
            shutil.rmtree(self.root.parent, ignore_errors=True)


def find(wanted: Path, *, read_only: bool) -> Place:
    """The wanted place, unless the user may only read and its volume can't be written: then as it is, or anew in the temporary folder."""
    if not read_only or os.access(_nearest(wanted), os.W_OK):
        return Place(wanted)
    if not seed.missing(wanted):
        return Place(wanted, frozen=True)
    return Place(Path(tempfile.mkdtemp(prefix="dexorder-")) / wanted.name, thrown_away=True)


def _nearest(path: Path) -> Path:
    """The path, or the folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
