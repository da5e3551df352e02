"""Keeps git's index in step with the commits that are made without git, so that git finds nothing uncommitted.

The index is not synced: it holds nothing that the files and the newest commit don't, and is made anew if it is damaged.
"""

from __future__ import annotations

import hashlib
import os
import struct
from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path

HEADING = struct.Struct(">4sII")
MODE = 0o100644
MOST_LENGTH = 0xFFF
EXTENDED, STAGE = 0x4000, 0x3000
STAT_BYTES = 40


class UnknownIndexError(Exception):
    """An index that only git itself can write."""


class Index:
    """The index of one repository, kept in memory between two changes of it."""

    def __init__(self, git_folder: Path) -> None:
        self._path = git_folder / "index"
        self._seen: tuple[int, int, int] | None = None
        self._paths: list[bytes] = []
        self._entries: list[bytes] = []

    def changed(self, objects: Mapping[str, str | None], hashed: str) -> bytes:
        """The index in which these paths have these objects."""
        status = self._path.stat()
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        if seen != self._seen:
            self._seen = None
            self._read(self._path.read_bytes(), hashed)
        for path, named in sorted(objects.items(), key=lambda entry: entry[1] is not None):
            self._set(os.fsencode(path), None if named is None else bytes.fromhex(named))
        whole = HEADING.pack(b"DIRC", 2, len(self._entries)) + b"".join(self._entries)
        return whole + hashlib.new(hashed, whole, usedforsecurity=False).digest()

    def placed(self) -> None:
        """What `changed` gave is in place."""
        status = self._path.stat()
        self._seen = (status.st_ino, status.st_size, status.st_mtime_ns)

    def forget(self) -> None:
        """What `changed` gave did not come to its place."""
        self._seen = None

    def _read(self, content: bytes, hashed: str) -> None:
        digest = hashlib.new(hashed, usedforsecurity=False).digest_size
        whole, end = content[:-digest], content[-digest:]
        # Git may be told to leave the sum out.
        if len(content) < HEADING.size + digest or (any(end) and hashlib.new(hashed, whole, usedforsecurity=False).digest() != end):
            raise UnknownIndexError("it is damaged")
        mark, version, count = HEADING.unpack_from(content)
        if mark != b"DIRC" or version != 2:
            raise UnknownIndexError(f"it has version {version}")
        paths, entries, place = [], [], HEADING.size
        for _ in range(count):
            name = place + STAT_BYTES + digest + 2
            (flags,) = struct.unpack_from(">H", content, name - 2)
            if flags & (EXTENDED | STAGE):
                raise UnknownIndexError("it has entries of a merge")
            stop = content.index(b"\0", name)
            paths.append(content[name:stop])
            # Entries end with 1 to 8 zeros, at a multiple of 8.
            following = place + (stop - place) // 8 * 8 + 8
            entries.append(content[place:following])
            place = following
        while place < len(whole):
            # What begins with a small letter can't be left out.
            if content[place : place + 1].islower():
                raise UnknownIndexError("it has an extension that must be known")
            place += 8 + int(struct.unpack_from(">I", content, place + 4)[0])
        self._paths, self._entries = paths, entries

    def _set(self, path: bytes, named: bytes | None) -> None:
        place = bisect_left(self._paths, path)
        known = place < len(self._paths) and self._paths[place] == path
        if named is None:
            if known:
                del self._paths[place], self._entries[place]
            return
        entry = _entry(path, named)
        if not known:
            self._make_room(path)
            place = bisect_left(self._paths, path)
            self._paths.insert(place, path)
            self._entries.insert(place, entry)
        elif named not in self._entries[place][STAT_BYTES : STAT_BYTES + len(named)]:
            self._entries[place] = entry

    def _make_room(self, path: bytes) -> None:
        """Remove a file that is a folder now, and the files of a folder that is a file now."""
        parts = path.split(b"/")
        for count in range(1, len(parts)):
            self._set(b"/".join(parts[:count]), None)
        inside = path + b"/"
        place = bisect_left(self._paths, inside)
        while place < len(self._paths) and self._paths[place].startswith(inside):
            del self._paths[place], self._entries[place]


def _entry(path: bytes, named: bytes) -> bytes:
    """An entry that says nothing of the file's times, so that git compares the content."""
    stat = struct.pack(">10I", 0, 0, 0, 0, 0, 0, MODE, 0, 0, 0)
    entry = stat + named + struct.pack(">H", min(len(path), MOST_LENGTH)) + path
    return entry + b"\0" * (8 - len(entry) % 8)
