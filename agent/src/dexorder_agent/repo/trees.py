"""Works out the folders of a commit as git keeps them: those of the commit before, with some files changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

FILE = b"100644"
FOLDER = b"40000"
MOST_KEPT = 64

Entries = dict[bytes, tuple[bytes, bytes]]
"""Mode and object of each name in a folder."""

Nested = dict[bytes, "Nested | str | None"]
"""Changes by name: those in a folder, the object of a file, or None for what is gone."""


def parse(content: bytes, digest: int) -> Entries:
    """The entries of a tree, whose objects' names are so many bytes long."""
    entries: Entries = {}
    place = 0
    while place < len(content):
        space = content.index(b" ", place)
        end = content.index(b"\0", space)
        entries[content[space + 1 : end]] = (content[place:space], content[end + 1 : end + 1 + digest])
        place = end + 1 + digest
    return entries


def written(entries: Entries) -> bytes:
    """The tree of these entries. Git orders a folder as if its name ended with a slash."""
    ordered = sorted(entries.items(), key=lambda entry: entry[0] + b"/" if entry[1][0] == FOLDER else entry[0])
    return b"".join(b"%s %s\0%s" % (mode, name, named) for name, (mode, named) in ordered)


@dataclass(slots=True)
class Trees:
    """Changes trees. Their newest state is kept for the next change: those that are in packs take git itself to read."""

    read: Callable[[str], bytes]
    """Gives the content of a tree."""
    write: Callable[[bytes], str]
    """Has the content of a new tree written; gives its name."""
    kept: dict[str, Entries]

    def change(self, root: str | None, objects: Mapping[str, str | None]) -> str:
        """The tree in which these paths have these objects."""
        changes: Nested = {}
        # What goes first makes room for what comes in its place.
        for path, named in sorted(objects.items(), key=lambda entry: entry[1] is not None):
            *folders, name = os.fsencode(path).split(b"/")
            inner = changes
            for folder in folders:
                following = inner.get(folder)
                if not isinstance(following, dict):
                    following = inner[folder] = {}
                inner = following
            if named is not None or not isinstance(inner.get(name), dict):
                inner[name] = named
        entries, _ = self._changed(root, changes)
        return root if root is not None and entries is None else self._write(entries or {}, root)

    def _changed(self, tree: str | None, changes: Nested) -> tuple[Entries | None, bool]:
        """The new entries of a tree, None if they are as they were, and whether there are any."""
        before = self._entries(tree)
        after = dict(before)
        for name, change in changes.items():
            known = before.get(name)
            if isinstance(change, dict):
                inner = known[1].hex() if known is not None and known[0] == FOLDER else None
                entries, filled = self._changed(inner, change)
                if entries is None and inner is not None:
                    continue
                if filled:
                    after[name] = (FOLDER, bytes.fromhex(self._write(entries or {}, inner)))
                elif inner is not None:
                    del after[name]
            elif change is not None:
                named = bytes.fromhex(change)
                if known is None or known[1] != named:
                    after[name] = (FILE, named)
            elif known is not None and known[0] != FOLDER:
                del after[name]
        return (None if after == before else after), bool(after)

    def _entries(self, tree: str | None) -> Entries:
        if tree is None:
            return {}
        entries = self.kept.get(tree)
        if entries is None:
            entries = self._keep(tree, parse(self.read(tree), len(tree) // 2))
        return entries

    def _write(self, entries: Entries, older: str | None) -> str:
        named = self.write(written(entries))
        if older is not None:
            self.kept.pop(older, None)
        self._keep(named, entries)
        return named

    def _keep(self, tree: str, entries: Entries) -> Entries:
        while len(self.kept) >= MOST_KEPT:
            del self.kept[next(iter(self.kept))]
        self.kept[tree] = entries
        return entries
