"""The warm process: loads numpy once and forks a child for each run. Holds no data of the user's.

Started by the agent with a socket on which it gets jobs (each with two descriptors: the job's socket and where printed text goes) and
orders to kill, and tells how children ended. It ends when the agent does.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys

MESSAGE_BYTES = 4096


def main() -> None:
    """Serve until the agent closes the socket."""
    control = socket.socket(fileno=int(sys.argv[1]))
    repository = sys.argv[2]
    from dexorder_agent.sandbox import child, landlock, limits, seccomp, syscalls

    parent = os.getppid()
    limits.end_with_parent(parent)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    children: dict[int, int] = {}
    machine = os.uname().machine
    able = {"ready": True, "seccomp": machine in syscalls.MACHINES, "landlock": landlock.version()}
    if able["seccomp"]:
        seccomp.program(machine, parent)
    # Children share these pages as long as nobody counts references in a collection.
    gc.collect()
    gc.freeze()
    control.send(json.dumps(able).encode())
    while True:
        readable, _, _ = select.select([control.fileno(), wake_read], [], [])
        if wake_read in readable:
            os.read(wake_read, 512)
            _reap(control, children)
        if control.fileno() in readable:
            message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 2)
            if not message:
                return
            order = json.loads(message)
            if "kill" in order:
                pids = [pid for pid, number in children.items() if number == order["kill"]]
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                continue
            own = os.getpid()
            pid = os.fork()
            if pid == 0:
                _become_child(control, own, descriptors)
                child.run(socket.socket(fileno=JOB), repository)
                os._exit(0)
            children[pid] = order["run"]
            for descriptor in descriptors:
                os.close(descriptor)


JOB = 3


def _become_child(control: socket.socket, parent: int, descriptors: list[int]) -> None:
    """Keep the job's socket as 3 and the printed text as 1 and 2, and nothing else that is open."""
    from dexorder_agent.sandbox import limits

    limits.end_with_parent(parent)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    job, printed = (os.dup(descriptor) for descriptor in descriptors)
    control.detach()
    high = 200
    os.dup2(job, high)
    os.dup2(printed, high + 1)
    empty = os.open("/dev/null", os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(high + 1, 1)
    os.dup2(high + 1, 2)
    os.dup2(high, JOB)
    os.closerange(JOB + 1, 1024)
    sys.dont_write_bytecode = True


def _reap(control: socket.socket, children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        number = children.pop(pid, None)
        if number is not None:
            control.send(json.dumps({"run": number, "status": status}).encode())


if __name__ == "__main__":
    main()
