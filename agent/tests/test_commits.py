"""What a commit leaves on the disk when it is broken off at any step, and in which order it gets there."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dexorder_agent.repo import commit, recover
from dexorder_agent.repo.commit import Committer
from dexorder_agent.repo.git import Git
from dexorder_agent.repo.group import Member

STEPS = ("open", "fsync", "rename", "mkdir", "unlink")
MOST_STEPS = 200


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """A repository with one commit."""
    found = Git(tmp_path / "repository", "trader1")
    (found.folder / "notes").mkdir(parents=True)
    (found.folder / "notes/a.md").write_text("old\n")
    run(found, "init", "--quiet", "--initial-branch=main")
    run(found, "add", "--all")
    run(found, "commit", "--quiet", "--message", "Begin")
    return found


def run(git: Git, *command: str) -> str:
    done = subprocess.run(["git", *command], cwd=git.folder, env=git.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def change(content: str) -> Member:
    """Two files change, one goes, one comes in a new folder."""
    edits = {"notes/a.md": f"{content}\n".encode(), f"new-{content}/b.md": b"b\n", "notes/gone.md": None}
    return Member("Change the notes", lambda _: edits)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, Callable[[], None]], None]]:
    """Has something happen in place of the step of this number."""
    lock, left = threading.Lock(), [0]
    happening: list[Callable[[], None]] = []

    def wrapped(step: Callable[..., Any]) -> Callable[..., Any]:
        def run_step(*arguments: Any, **named: Any) -> Any:
            with lock:
                left[0] -= 1
                due = left[0] == 0
            if due and happening:
                happening[0]()
            return step(*arguments, **named)

        return run_step

    def arm(number: int, then: Callable[[], None]) -> None:
        left[0] = number
        happening[:] = [then]

    for name in STEPS:
        monkeypatch.setattr(os, name, wrapped(getattr(os, name)))
    yield arm
    monkeypatch.undo()


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_commit_that_fails_at_any_step_leaves_a_repository_in_order(git: Git, interrupt: Callable[..., None]) -> None:
    committer = Committer(git)
    for number in range(1, MOST_STEPS):
        before = git.head()
        member, failure = change(f"n{number}"), None
        interrupt(number, full)
        try:
            made = committer.commit([member])
        except OSError as error:
            failure = error
        interrupt(0, lambda: None)
        assert leftovers(git) == []
        if failure is None and member.error is None:
            assert made.commit == git.head()
        elif member.error is not None:
            assert "No space left" in str(member.error)
            assert git.head() == before
        # The same change again, as a client would ask for it.
        again = change(f"n{number}")
        committer.commit([again])
        assert again.error is None
        assert (git.folder / "notes/a.md").read_text() == f"n{number}\n"
        assert run(git, "status", "--porcelain") == ""
        if failure is None and member.error is None and number > 60:
            break
    else:
        pytest.fail("a commit takes more steps than were tried")
    run(git, "fsck", "--strict")


def leftovers(git: Git) -> list[Path]:
    """What nobody will look for."""
    return [path for path in git.folder.rglob("*") if path.name.startswith((".dexorder-tmp-", "tmp_obj_")) or path.suffix == ".lock"]


def test_a_commit_that_is_killed_at_any_step_is_whole_or_recovered(git: Git, interrupt: Callable[..., None]) -> None:
    for number in range(1, MOST_STEPS):
        child = os.fork()
        if child == 0:
            # The threads of this process are not in the child.
            commit._syncing.cache_clear()
            signal.alarm(60)
            interrupt(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
            Committer(git).commit([change(f"n{number}")])
            os._exit(0)
        _, status = os.waitpid(child, 0)
        acknowledged = os.waitstatus_to_exitcode(status) == 0
        run(git, "fsck", "--strict", "--no-dangling")
        if acknowledged:
            assert run(git, "show", "HEAD:notes/a.md") == f"n{number}"
        asyncio.run(recover.recover(git))
        assert run(git, "status", "--porcelain") == ""
        assert leftovers(git) == []
        if acknowledged:
            break
    else:
        pytest.fail("a commit takes more steps than were tried")


def test_the_branch_moves_when_all_else_is_on_the_disk(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new name was synced before it was moved, its folder after; the branch comes last, and its folder after it."""
    lock, done = threading.Lock(), []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        fsync(descriptor)
        with lock:
            done.append(("sync", path))

    def noted_rename(source: Any, target: Any) -> None:
        with lock:
            done.append(("move", f"{source}\0{target}"))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    made = Committer(git).commit([change("next")])
    monkeypatch.undo()
    branch = str(git.folder / ".git/refs/heads/main")
    moves = [(place, *what.split("\0")) for place, (kind, what) in enumerate(done) if kind == "move"]
    (moved,) = [place for place, _, target in moves if target == branch]
    assert ("sync", f"{branch}.lock") in done[:moved]
    assert ("sync", str(git.folder / ".git/refs/heads")) in done[moved:]
    others = [move for move in moves if move[2] not in (branch, str(git.folder / ".git/index"))]
    for place, source, target in others:
        assert ("sync", source) in done[:place]
        assert ("sync", str(Path(target).parent)) in done[place:moved]
    targets = {target.removeprefix(f"{git.folder}/") for _, _, target in others}
    assert {"notes/a.md", "new-next/b.md"} <= targets
    new = run(git, "rev-list", "--objects", "--no-object-names", f"{made.commit}~1..{made.commit}").split()
    assert len(new) == 6
    assert {f".git/objects/{name[:2]}/{name[2:]}" for name in new} <= targets
    # New folders: the one above each was synced.
    for folder in (git.folder, git.folder / ".git/objects"):
        assert ("sync", str(folder)) in done[:moved]


def test_git_and_the_agent_take_turns(git: Git) -> None:
    """What git itself commits, packs and indexes in between is taken up, in any form of the index."""
    committer = Committer(git)
    for number, version in enumerate(("2", "4", "3", "2")):
        member = change(f"mine-{number}")
        made = committer.commit([member])
        assert member.error is None and made.moved
        assert run(git, "status", "--porcelain") == ""
        (git.folder / "notes/by-hand.md").write_text(f"{number}\n")
        run(git, "update-index", "--index-version", version)
        run(git, "add", "--all")
        run(git, "commit", "--quiet", "--message", "By hand")
        run(git, "gc", "--quiet")
    (git.folder / ".git/index").write_bytes(b"")
    made = committer.commit([change("last")])
    assert run(git, "status", "--porcelain") == ""
    run(git, "fsck", "--strict")
    assert run(git, "log", "--format=%an <%ae> %cn: %s", "-1") == "trader1 <trader1@workspace.invalid> Dexorder workspace: Change the notes"
    assert run(git, "reflog", "-1", "--format=%H %gs") == f"{made.commit} commit: Change the notes"
    assert int(run(git, "rev-list", "--count", "HEAD")) == 10


def test_a_branch_that_something_else_holds_or_is_detached(git: Git) -> None:
    committer = Committer(git)
    for name in ("index.lock", "refs/heads/main.lock"):
        (git.folder / ".git" / name).touch()
        with pytest.raises(Exception, match=name.rpartition("/")[2]):
            committer.commit([change("refused")])
        assert (git.folder / ".git" / name).exists()
        (git.folder / ".git" / name).unlink()
        assert (git.folder / "notes/a.md").read_text() == "old\n"
    run(git, "checkout", "--quiet", "--detach")
    made = committer.commit([change("detached")])
    assert run(git, "rev-parse", "HEAD") == made.commit != run(git, "rev-parse", "main")
    run(git, "checkout", "--quiet", "-B", "of/a.person")
    run(git, "pack-refs", "--all", "--prune")
    made = committer.commit([change("nested")])
    assert run(git, "rev-parse", "of/a.person") == made.commit
    assert run(git, "status", "--porcelain") == ""


@pytest.mark.parametrize("author", ["...", "\n<>", "", "Ünï çödé", "a" * 300, "x\ud800"])
def test_any_author_can_commit(git: Git, author: str) -> None:
    git.author = author
    Committer(git).commit([change("named")])
    run(git, "fsck", "--strict")
    assert run(git, "log", "-1", "--format=%an")


def test_a_file_takes_the_place_of_a_folder_that_is_gone(git: Git) -> None:
    committer = Committer(git)
    committer.commit([Member("One", lambda _: {"notes/a.md": None, "notes.md": b"x\n"})])
    (git.folder / "notes").rmdir()
    committer.commit([Member("Two", lambda _: {"notes": b"a file\n"})])
    assert run(git, "ls-tree", "-r", "--name-only", "HEAD").split() == ["notes", "notes.md"]
    committer.commit([Member("Three", lambda _: {"notes": None})])
    committer.commit([Member("Four", lambda _: {"notes/./b//c.md": b"deep\n"})])
    assert run(git, "ls-tree", "-r", "--name-only", "HEAD").split() == ["notes.md", "notes/b/c.md"]
    assert run(git, "status", "--porcelain") == ""
    run(git, "fsck", "--strict")
