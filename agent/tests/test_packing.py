"""Packing in the background: fewer files, the same objects, and nothing lost wherever it is broken off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Agent, wait_until
from test_commits import run

from dexorder_agent.repo import pack, recover
from dexorder_agent.repo.commit import Committer
from dexorder_agent.repo.git import Git, GitError
from dexorder_agent.repo.group import Member
from dexorder_agent.repo.pack import Pack, Packer, count_loose, packs
from dexorder_agent.repo.repository import Repository

pytestmark = pytest.mark.anyio


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """An empty repository."""
    found = Git(tmp_path / "repository", "trader1")
    found.folder.mkdir()
    run(found, "init", "--quiet", "--initial-branch=main")
    return found


def objects(git: Git) -> Path:
    return git.folder / ".git/objects"


def everything(git: Git) -> set[str]:
    """The names of all objects, wherever they are."""
    return set(run(git, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split())


def commit(git: Git, numbers: range, committer: Committer | None = None) -> None:
    """Commits that change files of two folders."""
    committer = committer or Committer(git)
    for number in numbers:
        edits = {f"notes/{number % 3}.md": f"{number}\n".encode(), f"conversations/{number % 2}.jsonl": b"{}\n" * number}
        committer.commit([Member(f"Write {number}", lambda _, edits=edits: edits)])


async def test_what_is_packed_is_all_there_and_the_next_save_needs_no_git(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(git, range(30))
    run(git, "hash-object", "-w", ".git/HEAD")
    before, loose = everything(git), count_loose(objects(git))
    assert loose > 100
    await Packer(git).pack()
    assert everything(git) == before
    # The newest commit with its three folders, and what no commit has.
    assert count_loose(objects(git)) == 5
    assert len(packs(objects(git))) == 1
    monkeypatch.setenv("PATH", "/nonexistent")
    git.author = "trader2"
    commit(git, range(30, 32))
    monkeypatch.undo()
    git.author = "trader1"
    run(git, "fsck", "--strict")
    assert run(git, "status", "--porcelain") == ""
    assert run(git, "log", "--format=%s", "-2").splitlines() == ["Write 31", "Write 30"]


async def test_packs_stay_few(git: Git) -> None:
    committer = Committer(git)
    packer = Packer(git)
    counts = []
    for number in range(12):
        commit(git, range(number * 4, number * 4 + 4), committer)
        before = everything(git)
        await packer.pack()
        assert everything(git) == before
        counts.append(len(packs(objects(git))))
    assert max(counts) <= 4
    run(git, "fsck", "--strict")


@given(st.lists(st.integers(1, 10_000), max_size=12))
def test_joined_packs_leave_each_larger_than_all_after_it(sizes: list[int]) -> None:
    found = [Pack(Path(str(number)), size) for number, size in enumerate(sorted(sizes, reverse=True))]
    joined = pack.due(found)
    assert found[len(found) - len(joined) :] == joined
    rest = [one.objects for one in found[: len(found) - len(joined)]] + ([sum(one.objects for one in joined)] if joined else [])
    for number in range(len(rest) - 1 - bool(joined)):
        assert rest[number] >= pack.GROWTH * sum(rest[number + 1 :])


async def test_packs_that_somebody_keeps_stay(git: Git) -> None:
    commit(git, range(3))
    await Packer(git).pack()
    (kept,) = packs(objects(git))
    kept.index.with_suffix(".keep").touch()
    commit(git, range(3, 9))
    await Packer(git).pack()
    assert kept.index.exists() and len(packs(objects(git))) == 1
    run(git, "multi-pack-index", "write")
    for start in (9, 12):
        commit(git, range(start, start + 3))
        await Packer(git).pack()
    run(git, "fsck", "--strict")
    run(git, "multi-pack-index", "verify")


STEPS = ("setpriority", "fsync", "unlink")
MOST_STEPS = 200


def killed_after(number: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Steps of which the one of this number does not happen: the process and what it has started are killed in its place."""
    left = iter(range(number - 1, -1, -1))

    def wrapped(step: Callable[..., Any]) -> Callable[..., Any]:
        def take(*arguments: Any, **named: Any) -> Any:
            if next(left, -1) == 0:
                os.killpg(0, signal.SIGKILL)
            return step(*arguments, **named)

        return take

    return wrapped


def test_packing_that_is_killed_at_any_step_loses_nothing(git: Git) -> None:
    committer = Committer(git)
    for start in (0, 4):
        commit(git, range(start, start + 2), committer)
        asyncio.run(Packer(git).pack())
    for number in range(1, MOST_STEPS):
        commit(git, range(number * 2, number * 2 + 2), committer)
        before = everything(git)
        child = os.fork()
        if child == 0:
            os.setsid()
            signal.alarm(60)
            wrapped = killed_after(number)
            for name in STEPS:
                setattr(os, name, wrapped(getattr(os, name)))
            asyncio.run(Packer(git).pack())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        over = os.waitstatus_to_exitcode(status) == 0
        run(git, "fsck", "--strict")
        assert everything(git) == before
        asyncio.run(recover.recover(git))
        assert not [path for path in (objects(git) / "pack").iterdir() if path.name.startswith((".tmp", "tmp"))]
        if over:
            break
        if number % 7 == 0:
            # What was broken off is made up for.
            asyncio.run(Packer(git).pack())
            assert everything(git) == before
    else:
        pytest.fail("packing takes more steps than were tried")
    assert number > 20


async def test_packing_that_fails_leaves_no_half_written_pack(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(git, range(10))
    before, loose = everything(git), count_loose(objects(git))
    for command in ("repack", "pack-objects", "prune-packed"):
        start = git.start

        async def fail(*given: str, command: str = command, start: Any = start, **named: Any) -> asyncio.subprocess.Process:
            if command in given:
                (objects(git) / "pack").mkdir(exist_ok=True)
                (objects(git) / "pack/tmp_pack_half").write_bytes(b"half")
                return await start("no-such-command", **named)
            return await start(*given, **named)

        monkeypatch.setattr(git, "start", fail)
        commit(git, range(10, 14))
        with contextlib.suppress(GitError):
            await Packer(git).pack()
        monkeypatch.undo()
        assert not list((objects(git) / "pack").glob("tmp_*"))
        assert before <= everything(git)
    await Packer(git).pack()
    assert before <= everything(git) and count_loose(objects(git)) < loose
    run(git, "fsck", "--strict")


async def test_saves_go_on_while_it_packs(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository", "trader1")
    await repository.open()
    commits: list[str] = []
    more, over = asyncio.Event(), asyncio.Event()

    async def write(writer: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            # The same content again and again: its object may just be moved into a pack.
            change = await repository.change("Write", {f"notes/{writer}.md": f"{number % 3}\n".encode()})
            commits.append(change.commit)
            more.set()

    writing = [asyncio.create_task(write(writer)) for writer in range(4)]
    for _ in range(4):
        enough = len(commits) + 40
        await repository.packer.pack()
        while len(commits) < enough:
            more.clear()
            await more.wait()
    over.set()
    await asyncio.gather(*writing)
    await repository.git.run("fsck", "--strict")
    assert set(commits) <= set((await repository.git.run("rev-list", "HEAD")).split())
    assert await repository.git.run("status", "--porcelain") == ""


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It is quiet at once."""
    monkeypatch.setattr(pack, "QUIET_SECONDS", 0.0)
    yield


async def test_it_packs_when_there_is_enough_and_it_is_quiet(tmp_path: Path, hurried: None) -> None:
    repository = Repository(tmp_path / "repository", "trader1", pack_after=15)
    await repository.open()
    folder = repository.root / ".git/objects"
    for number in range(14):
        await repository.change("Write", {"notes/a.md": f"{number}\n".encode()})
    assert packs(folder) == []
    await repository.change("Write", {"notes/a.md": b"last\n"})
    await asyncio.to_thread(wait_until, lambda: packs(folder) and count_loose(folder) < 10)
    await repository.packer.close()


def test_a_start_packs_what_has_become_much(tmp_path: Path) -> None:
    agent = Agent(tmp_path).start()
    wait_until(lambda: agent.status()["commit"])
    folder = agent.repository / ".git/objects"
    assert agent.stop() == 0 and packs(folder) == []
    agent._environment["AGENT_PACK_AFTER"] = "5"
    agent.start()
    wait_until(lambda: packs(folder) and count_loose(folder) < 10)
    agent.git("fsck", "--strict")
    assert agent.stop() == 0
    assert "objects packed" in (tmp_path / "log").read_text()
