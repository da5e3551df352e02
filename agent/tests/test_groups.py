"""Changes that share a commit: each as if it were alone."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure_saves import measure_calls
from support import Agent, slowness

from dexorder_agent.errors import WorkspaceError
from dexorder_agent.packages import listing
from dexorder_agent.repo.commit import Committer
from dexorder_agent.repo.git import Git
from dexorder_agent.repo.group import Edits, Member, Read
from dexorder_agent.repo.repository import Repository

pytestmark = pytest.mark.anyio

PATHS = st.sampled_from(["a", "b", "folder/a", "folder/deeper/b"])
CONTENTS = st.none() | st.binary(max_size=4)
CHANGES = st.lists(st.none() | st.dictionaries(PATHS, CONTENTS, min_size=1, max_size=3), max_size=6)


@settings(max_examples=40, deadline=None)
@given(CHANGES, CHANGES, st.sampled_from(["sha1", "sha256"]), st.booleans())
def test_a_group_leaves_files_and_commit_as_its_changes_one_after_the_other_would(
    first: list[Mapping[str, bytes | None] | None], second: list[Mapping[str, bytes | None] | None], hashed: str, packed: bool
) -> None:
    """A None is a change that fails: it leaves no trace. Git itself finds everything in order, also where it had packed it."""
    expected: dict[str, bytes] = {"kept/deep/file": b"kept"}
    with TemporaryDirectory() as folder:
        root = Path(folder)
        git(root, "init", "--quiet", f"--object-format={hashed}", "--initial-branch=main")
        (root / "kept/deep").mkdir(parents=True)
        (root / "kept/deep/file").write_bytes(b"kept")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--message", "Begin")
        if packed:
            git(root, "gc", "--quiet")
        committer = Committer(Git(root, "trader1"))
        for changes in (first, second):
            members = [Member("m", _failing if edits is None else (lambda _, edits=edits: edits)) for edits in changes]
            before = git(root, "rev-parse", "HEAD")
            made = committer.commit(members)
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
            files = [path for path in root.rglob("*") if path.is_file() and ".git" not in path.relative_to(root).parts]
            assert {str(path.relative_to(root)): path.read_bytes() for path in files} == expected
            assert set(made.paths) == {path for edits in changes for path in edits or ()}
            assert git(root, "rev-parse", "HEAD") == made.commit
            assert made.moved == (made.commit != before)
            assert git(root, "ls-tree", "-r", "--name-only", "HEAD").splitlines() == sorted(expected)
            assert git(root, "status", "--porcelain") == ""
        git(root, "fsck", "--strict")


def git(root: Path, *command: str) -> str:
    """What a command of the machine's git prints."""
    named = Git(root, "tester")
    done = subprocess.run(["git", *command], cwd=root, env=named.environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


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


def test_a_hundred_small_saves_a_second_are_acknowledged(agent: Agent) -> None:
    """By tool calls of many clients; fewer only as far as something else keeps the machine busy. `measure_saves.py` measures."""
    rates = []
    for _ in range(4):
        slow = slowness(time.perf_counter)
        rates.append(measure_calls(agent, 16, 0.5) * slow)
        if rates[-1] > 100:
            break
    assert max(rates) > 100
