"""Processes of the local cluster, as this machine sees them."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path(__file__).parents[3] / ".local" / "bin"


@contextmanager
def stopped(program: str) -> Iterator[None]:
    """Let a program of the cluster's control plane stand still."""
    pids = _running(PROGRAMS.resolve() / program)
    assert pids, f"no {program} of this checkout runs"
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _running(program: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "exe").readlink() == program:
                found.append(int(process.name))
    return found


def signal_first(container: str, number: signal.Signals) -> None:
    """Send a signal to the first process of a container; the others end with it."""
    # Without a container it would be the first process of each, this machine's own among them.
    assert container, "there is no container"
    sent = [int(process.name) for process in Path("/proc").glob("[0-9]*") if _is_first(process, container)]
    assert sent, f"no process of the container {container} is on this machine"
    for pid in sent:
        os.kill(pid, number)


def _is_first(process: Path, container: str) -> bool:
    """Whether it is the first in the container. One that ends meanwhile is not."""
    try:
        inside = container in (process / "cgroup").read_text()
        return inside and (process / "status").read_text().partition("NSpid:")[2].split("\n")[0].split()[-1] == "1"
    except (FileNotFoundError, ProcessLookupError):
        return False
