"""Processes of the local cluster's containers, as this machine sees them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal


def signal_first(container: str, number: signal.Signals) -> None:
    """Send a signal to the first process of a container; the others end with it."""
    sent = [pid for pid in _inside(container) if _is_first(pid)]
    assert sent, f"no process of the container {container} is on this machine"
    for pid in sent:
        os.kill(pid, number)


def _inside(container: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # Without a container it would be every process of the machine.
            if container and container in (process / "cgroup").read_text():
                found.append(int(process.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _is_first(pid: int) -> bool:
    status = (Path("/proc") / str(pid) / "status").read_text()
    return status.partition("NSpid:")[2].split("\n")[0].split()[-1] == "1"
