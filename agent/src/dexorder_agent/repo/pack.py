"""Packs git's objects in the background, so that a repository of tens of thousands of commits stays small and quick.

Git's own housekeeping is off: it may run at any time, and a kill in the middle must cost nothing. Here what is new is packed when nobody
has changed anything for a while. The pack and its name are on the disk before anything that it holds is removed; whatever is broken off
leaves an object twice, or a half-written pack that the next start removes, and never an object less.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import struct
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from dexorder_agent.background import Background
from dexorder_agent.log import event
from dexorder_agent.repo import files
from dexorder_agent.repo.git import Git, GitError

logger = logging.getLogger(__name__)

COMMITS = 1000
"""After so many commits it is worth to pack."""
OBJECTS_OF_A_COMMIT = 3
"""At least: the commit, a folder and a file."""
MOST_BEHIND = 4
"""A workspace that is never quiet is packed after so many times the usual commits."""
QUIET_SECONDS = 20.0
SECONDS = 1800.0
GROWTH = 2
"""Each pack has at least so many times the objects of all smaller ones together: there are few packs, and each object is moved seldom."""
LOWEST_PRIORITY = 19

# One thread and little memory: it is the user's pod, with the user's limits.
MODEST = ("-c", "pack.threads=1", "-c", "pack.windowMemory=16m", "-c", "pack.deltaCacheSize=8m", "-c", "core.fsync=all")
PACKS = ".git/objects/pack/pack"
"""What the paths of packs begin with."""
FANOUT = struct.Struct(">I")
OBJECTS_AT = 8 + 255 * 4
"""Where the index of a pack says how many objects there are."""


@dataclass(frozen=True, slots=True)
class Pack:
    """One pack: the path of its index, and how many objects it has."""

    index: Path
    objects: int


class Packer:
    """Packs one repository. Commits go on meanwhile."""

    def __init__(self, git: Git, commits: int = COMMITS) -> None:
        self._git = git
        self._folder = git.folder / ".git" / "objects"
        self._after = commits
        self._commits = 0
        self._quiet_at = 0.0
        self._pressing = asyncio.Event()
        """Set when there is so much to pack that it can't wait."""
        self._background = Background()

    def committed(self) -> None:
        """Take note of a commit."""
        self._commits += 1
        self._quiet_at = asyncio.get_running_loop().time() + QUIET_SECONDS
        if self._commits >= MOST_BEHIND * self._after:
            self._pressing.set()
        if self._commits >= self._after:
            self.follow()

    def follow(self) -> None:
        """Pack, if there is enough to pack, as soon as it is quiet."""
        self._background.start(self._follow)

    async def close(self) -> None:
        """Stop what goes on in the background."""
        await self._background.close()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while (rest := self._quiet_at - loop.time()) > 0 and not self._pressing.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._pressing.wait(), rest)
        self._commits = 0
        self._pressing.clear()
        try:
            loose = await asyncio.to_thread(count_loose, self._folder)
            if loose >= OBJECTS_OF_A_COMMIT * self._after:
                await self.pack()
                left = await asyncio.to_thread(count_loose, self._folder)
                event(logger, "objects packed", packed=loose - left, loose=left, packs=len(packs(self._folder)))
        except (GitError, OSError, TimeoutError):
            # Nothing is lost by it, and the next time may do better.
            logger.exception("the repository could not be packed")

    async def pack(self) -> None:
        """Pack what is loose, and join packs that have become many."""
        try:
            async with asyncio.timeout(SECONDS):
                await self._run("repack", "-q", "-n")
                await asyncio.to_thread(sync_packs, self._folder)
                await self._remove_loose()
                await self._join()
        except BaseException:
            # Where the disk is full they would keep it full. A fetch that loses one of its own is tried again.
            remove_half_written(self._folder)
            raise

    async def _remove_loose(self) -> None:
        """Remove what is in a pack too. Folders stay: a commit may be about to use one."""
        # A commit begins with reading these, which takes git itself where they are in a pack.
        needed = await self._git.run("rev-list", "--objects", "--filter=blob:none", "--no-object-names", "--no-walk", "HEAD")
        kept = set(needed.split())
        async for part in self._lines("prune-packed", "--dry-run"):
            names = [name for line in part if (name := _loose_name(line)) is not None and name not in kept]
            await asyncio.to_thread(self._unlink, names)

    def _unlink(self, names: Iterable[str]) -> None:
        for name in names:
            (self._folder / name[:2] / name[2:]).unlink(missing_ok=True)

    async def _join(self) -> None:
        """Put the small packs into one, if they have become large beside the next."""
        if (self._folder / "pack" / "multi-pack-index").exists():
            # Somebody else's git keeps order here, and would miss the packs.
            return
        small = due(packs(self._folder))
        if len(small) < 2:
            return
        named = "".join(f"{pack.index.stem}.pack\n" for pack in small)
        made = (await self._run("pack-objects", "--quiet", "--stdin-packs", PACKS, given=named)).split()
        await asyncio.to_thread(sync_packs, self._folder)
        for pack in small:
            if made and pack.index.stem.removeprefix("pack-") not in made:
                await asyncio.to_thread(_remove_pack, pack)

    async def _run(self, *command: str, given: str = "") -> str:
        process = await self._git.start(*MODEST, *command, given=True)
        _give_way(process)
        try:
            output, errors = await process.communicate(given.encode())
        except BaseException:
            await _end(process)
            raise
        if process.returncode != 0:
            raise GitError(command, process.returncode or 0, errors.decode("utf-8", "replace"))
        return output.decode("utf-8", "replace")

    async def _lines(self, *command: str) -> AsyncIterator[list[str]]:
        """What a command prints, some lines at a time."""
        process = await self._git.start(*command)
        _give_way(process)
        assert process.stdout is not None
        try:
            rest = ""
            while part := await process.stdout.read(1 << 16):
                *lines, rest = (rest + part.decode("utf-8", "replace")).split("\n")
                yield lines
            if await process.wait() != 0:
                raise GitError(command, process.returncode or 0, "")
        finally:
            await _end(process)


def packs(objects: Path) -> list[Pack]:
    """The packs that may be joined with others, the largest first."""
    found = []
    for index in (objects / "pack").glob("pack-*.idx"):
        if not any(index.with_suffix(suffix).exists() for suffix in (".keep", ".promisor", ".mtimes")):
            with index.open("rb") as file:
                file.seek(OBJECTS_AT)
                found.append(Pack(index, *FANOUT.unpack(file.read(FANOUT.size))))
    return sorted(found, key=lambda pack: pack.objects, reverse=True)


def due(found: list[Pack]) -> list[Pack]:
    """Of the packs, the largest first, those to be joined: no pack is less than GROWTH times as large as what comes after it."""
    place, after = len(found), 0
    for number in range(len(found) - 1, -1, -1):
        if number + 1 < len(found) and found[number].objects < GROWTH * after:
            place = number
        after += found[number].objects
    return found[place:]


def count_loose(objects: Path) -> int:
    """How many objects are files of their own."""
    count = 0
    for number in range(256):
        with contextlib.suppress(FileNotFoundError), os.scandir(objects / f"{number:02x}") as entries:
            count += sum(1 for _ in entries)
    return count


def sync_packs(objects: Path) -> None:
    """Have the packs and their names on the disk."""
    files.sync(path for path in (objects / "pack").iterdir() if path.suffix in (".pack", ".idx", ".rev"))


def remove_half_written(objects: Path) -> None:
    """Remove what a packing or a fetch has left that was broken off."""
    for half in (*(objects / "pack").glob("tmp_*"), *(objects / "pack").glob(".tmp-*")):
        half.unlink(missing_ok=True)


def _loose_name(line: str) -> str | None:
    """The object that a line `rm -f .git/objects/ab/cdef` names."""
    match = re.search(r"([0-9a-f]{2})/([0-9a-f]{38}|[0-9a-f]{62})$", line)
    return None if match is None else match[1] + match[2]


def _remove_pack(pack: Pack) -> None:
    """The index goes first: without it nobody looks for the rest."""
    pack.index.unlink(missing_ok=True)
    for rest in pack.index.parent.glob(f"{pack.index.stem}.*"):
        rest.unlink(missing_ok=True)


def _give_way(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process.pid, LOWEST_PRIORITY)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
