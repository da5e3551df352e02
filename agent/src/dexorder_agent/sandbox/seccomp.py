"""A system call filter for the user's code: no new processes, no writing of files, no network unless the tier allows it.

The filter is a classic BPF program in the layout of linux/seccomp.h. It refuses by error number, so that Python raises an ordinary
exception that names the line. On a processor without a table, or a kernel that refuses, the limits alone hold.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import socket
import struct

from dexorder_agent.sandbox import syscalls

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
ALLOW = 0x7FFF0000
ERRNO = 0x00050000

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
X32 = 0x40000000
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def install(machine: str, *, network: bool) -> bool:
    """Put the filter on this process for good; False if that isn't possible here."""
    if machine not in syscalls.MACHINES:
        return False
    code = program(machine, os.getpid(), network=network)
    buffer = ctypes.create_string_buffer(code, len(code))
    described = _Program(len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(described), 0, 0) == 0)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def program(machine: str, own_pid: int, *, network: bool = False) -> bytes:
    """The filter: each rule is a comparison of the number and its answer. `network` leaves connections over IP, but no servers."""
    code = []
    own = [(number, own_pid) for number in syscalls.OWN_PROCESS[machine]]
    for number, pid in [*own, (syscalls.LIMITS[machine], 0)]:
        code += [
            _step(EQUAL, number, no=4),
            _step(LOAD, ARGUMENTS_AT),
            _step(EQUAL, pid, yes=1),
            _step(RETURN, ERRNO | errno.EPERM),
            _step(RETURN, ALLOW),
        ]
    code.append(_step(RETURN, ALLOW))
    return _same_for_all(machine, network) + b"".join(code)


@functools.cache
def _same_for_all(machine: str, network: bool) -> bytes:
    """The rules that name no process. The warm process makes them before it forks."""
    code = [
        _step(LOAD, ARCHITECTURE_AT),
        _step(EQUAL, syscalls.MACHINES[machine], yes=1),
        _step(RETURN, ERRNO | errno.EPERM),
        _step(LOAD, NUMBER_AT),
    ]
    if machine == "x86_64":
        # The same calls again under the numbers of another interface.
        code += [_step(AT_LEAST, X32, no=1), _step(RETURN, ERRNO | errno.EPERM)]
    if network:
        code += [
            _step(EQUAL, syscalls.SOCKET[machine], no=5),
            _step(LOAD, ARGUMENTS_AT),
            _step(EQUAL, socket.AF_INET, yes=2),
            _step(EQUAL, socket.AF_INET6, yes=1),
            _step(RETURN, ERRNO | errno.EAFNOSUPPORT),
            _step(RETURN, ALLOW),
            _step(EQUAL, syscalls.CONNECT[machine], no=1),
            _step(RETURN, ALLOW),
        ]
    for number, error in syscalls.refused(machine):
        code += [_step(EQUAL, number, no=1), _step(RETURN, ERRNO | error)]
    for number, position in syscalls.OPENING[machine]:
        code += [
            _step(EQUAL, number, no=4),
            _step(LOAD, ARGUMENTS_AT + 8 * position),
            _step(ANY_BIT, WRITING, no=1),
            _step(RETURN, ERRNO | errno.EROFS),
            _step(RETURN, ALLOW),
        ]
    return b"".join(code)


def _step(operation: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", operation, yes, no, value)
