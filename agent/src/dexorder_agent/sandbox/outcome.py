"""Puts into words how a child ended that gave no answer."""

from __future__ import annotations

import os
import signal

SIGNALS = {
    signal.SIGSEGV: "crashed with a segmentation fault (endless recursion or broken native code)",
    signal.SIGBUS: "crashed with a bus error",
    signal.SIGFPE: "crashed with an arithmetic error in native code",
    signal.SIGILL: "crashed with an illegal instruction",
    signal.SIGABRT: "aborted in native code",
    signal.SIGXCPU: "used up its processor time",
    signal.SIGKILL: "was killed, most likely because the pod ran out of memory",
}


def describe(status: int, printed_bytes: int) -> str:
    """What happened, from the status that the system gives when a process ends."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGXFSZ:
            return f"printed more than the {printed_bytes // 1024} KiB that a run may print"
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return SIGNALS.get(signal.Signals(number), f"ended by {name}") if name.startswith("SIG") else f"ended by {name}"
    return f"ended its own process with status {os.WEXITSTATUS(status)} before it returned a result"
