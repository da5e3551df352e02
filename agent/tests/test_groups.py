"""Changes that share a commit: each as if it were alone."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.packages import listing
from dexorder_agent.repo import group
from dexorder_agent.repo.group import Edits, Member, Read
from dexorder_agent.repo.repository import Repository

pytestmark = pytest.mark.anyio

PATHS = st.sampled_from(["a", "b", "folder/a", "folder/deeper/b"])
CONTENTS = st.none() | st.binary(max_size=4)
CHANGES = st.lists(st.none() | st.dictionaries(PATHS, CONTENTS, min_size=1, max_size=3), max_size=6)


@settings(max_examples=60, deadline=None)
@given(CHANGES, CHANGES)
def test_a_group_leaves_the_files_as_its_changes_one_after_the_other_would(
    first: list[Mapping[str, bytes | None] | None], second: list[Mapping[str, bytes | None] | None]
) -> None:
    """A None is a change that fails: it leaves no trace."""
    expected: dict[str, bytes] = {}
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / ".git/objects").mkdir(parents=True)
        for changes in (first, second):
            members = [Member("m", _failing if edits is None else (lambda _, edits=edits: edits)) for edits in changes]
            objects = group.apply(root, members, "sha1")
            for edits, member in zip(changes, members, strict=True):
                assert (member.error is not None) == (edits is None)
                if edits is None:
                    continue
                assert member.differs == any(expected.get(path) != content for path, content in edits.items())
                for path, content in edits.items():
                    if content is None:
                        expected.pop(path, None)
                    else:
                        expected[path] = content
            files = [path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts]
            assert {str(path.relative_to(root)): path.read_bytes() for path in files} == expected
            touched = {path for edits in changes for path in edits or ()}
            assert {path: named is not None for path, named in objects.items()} == {path: path in expected for path in touched}
            for path, named in objects.items():
                if named is not None:
                    kept = zlib.decompress((root / ".git/objects" / named[:2] / named[2:]).read_bytes())
                    assert kept == b"blob %d\0" % len(expected[path]) + expected[path]
                    assert hashlib.sha1(kept).hexdigest() == named


def _failing(read: Read) -> Edits:
    raise WorkspaceError(f"no: {read('a')!r}")


NAMES = st.sampled_from(["numba", "scipy", "ta-lib", "x_y", "pandas"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), NAMES, st.sampled_from(["", ">=2", "==1.5", " >=1,<2"]))), st.booleans())
def test_packages_are_added_and_removed_as_in_a_set(steps: list[tuple[bool, str, str]], commented: bool) -> None:
    text = "# mine\nname: x\nchannels: # two\n  - conda-forge\n  - other\ndependencies:\n\n# end\n" if commented else ""
    expected: dict[str, str] = {}
    for adds, name, version in steps:
        if adds:
            text = listing.add(text, name + version)
            expected[name] = name + version
        elif name in expected:
            text = listing.remove(text, name)
            del expected[name]
        else:
            with pytest.raises(WorkspaceError, match="isn't in"):
                listing.remove(text, name)
    parsed = listing.parse(text)
    assert sorted(parsed.specs) == sorted(expected.values())
    assert parsed.channels == (("conda-forge", "other") if commented else ())


async def test_writers_share_commits_and_one_that_fails_hurts_no_other(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository", "trader1")
    await repository.open()
    told: list[frozenset[str]] = []
    repository.listeners.append(told.append)
    before = int(await repository.git.run("rev-list", "--count", "HEAD"))
    changes = [repository.change(f"Write {number}", {f"notes/{number}.md": b"x\n"}) for number in range(40)]
    bad = [repository.change("Bad", {"README.md/x": b""}), repository.change("Worse", {"../x": b""}), repository.update("No", _failing)]
    done = await asyncio.gather(*changes, *bad, return_exceptions=True)
    assert [type(result) for result in done[40:]] == [WorkspaceError] * 3
    good = [result for result in done[:40] if not isinstance(result, BaseException)]
    assert len(good) == 40 and all(change.changed for change in good)
    commits = int(await repository.git.run("rev-list", "--count", "HEAD")) - before
    assert 1 <= commits <= 3
    assert frozenset().union(*told) == {f"notes/{number}.md" for number in range(40)}
    shown = await repository.git.run("log", "-1", "--format=%B")
    assert shown.startswith("Write 0 and 39 more\n") and "- Write 39\n" in shown
    assert await repository.git.run("status", "--porcelain") == ""
