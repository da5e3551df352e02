"""Resource limits of a child."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal

PR_SET_PDEATHSIG = 1


def apply(*, seconds: float, memory_mib: int, printed_bytes: int) -> None:
    """Limit this process. Memory counts from what it has now: the interpreter and numpy don't count."""
    # Of all processes in the pod this is the one to end when memory runs out.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    _limit(resource.RLIMIT_AS, _mapped_bytes() + memory_mib * 1024 * 1024)
    _limit(resource.RLIMIT_FSIZE, printed_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, 64)
    # The agent stops a run in time; this is for the case that the agent itself is gone.
    _limit(resource.RLIMIT_CPU, int(seconds) + 2)
    # 0 would count the processes of other pods with this user ID too, which is as well: none may be added.
    _limit(resource.RLIMIT_NPROC, 0)
    # Python ignores this signal, which would make an endless print a loop of errors.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _limit(what: int, value: int) -> None:
    _, most = resource.getrlimit(what)
    if most != resource.RLIM_INFINITY:
        value = min(value, most)
    resource.setrlimit(what, (value, value))


def _mapped_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
