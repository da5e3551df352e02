"""The indicators and strategies that are in the repository now."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dexorder_agent.errors import NotFoundError, SourceError
from dexorder_agent.names import NAME_PATTERN, check
from dexorder_agent.repo.repository import Repository
from dexorder_agent.source.model import Kind, Signature
from dexorder_agent.source.read import read


@dataclass(frozen=True, slots=True)
class _Read:
    stamp: tuple[int, int, int]
    described: dict[str, Any]


class Catalog:
    """Lists the files of one kind. What was read is kept until the file changes."""

    def __init__(self, repository: Repository, kind: Kind) -> None:
        self._repository = repository
        self.kind = kind
        self._known: dict[str, _Read] = {}

    async def entries(self) -> list[dict[str, Any]]:
        """Every file in order of name; one that can't be used has an `error` in place of a signature."""
        await self._repository.opened()
        known: dict[str, _Read] = {}
        for path in _files(self._repository.root / self.kind.folder):
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            previous = self._known.get(path.stem)
            if previous is not None and previous.stamp == stamp:
                known[path.stem] = previous
            else:
                known[path.stem] = _Read(stamp, self._describe(path))
        self._known = known
        return [known[name].described for name in sorted(known)]

    def _describe(self, path: Path) -> dict[str, Any]:
        try:
            check(path.stem, NAME_PATTERN, f"{self.kind.noun} name")
            return read(path.stem, path.read_text("utf-8"), self.kind).describe()
        except (SourceError, UnicodeDecodeError) as error:
            problem = str(error)
        except Exception as error:
            problem = str(error) or type(error).__name__
        return {"name": path.stem, "description": "", "inputs": [], "parameters": [], "outputs": [], "error": problem}

    async def source(self, name: str) -> str:
        """The source of one, or an error that says which there are."""
        content = await self._repository.read(self.path(name))
        if content is None:
            there = [entry["name"] for entry in await self.entries()]
            listed = f"there are {', '.join(there[:50])}" if there else "there are none"
            raise NotFoundError(f"{self.kind.noun} {name!r} doesn't exist: {listed}")
        return content.decode("utf-8", "replace")

    async def signature(self, name: str) -> Signature:
        """The signature of one; a SourceError if it can't be used."""
        return read(name, await self.source(name), self.kind)

    async def shown(self, name: str) -> dict[str, Any]:
        """The source of one, with its signature or with what is wrong with it."""
        source = await self.source(name)
        shown: dict[str, Any] = {"name": name, "path": self.path(name), "source": source}
        try:
            shown["signature"] = read(name, source, self.kind).describe()
        except SourceError as error:
            shown["error"] = str(error)
        return shown

    def path(self, name: str) -> str:
        """The path of one in the repository."""
        return f"{self.kind.folder}/{check(name, NAME_PATTERN, f'{self.kind.noun} name')}.py"


def _files(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(e.path) for e in entries if e.name.endswith(".py") and e.is_file(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
