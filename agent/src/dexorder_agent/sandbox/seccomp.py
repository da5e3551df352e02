"""A system call filter for the user's code: no new processes, no network, no writing of files.

The filter is a classic BPF program in the layout of linux/seccomp.h. It refuses by error number, so that Python raises an ordinary
exception that names the line. On a processor without a table here, or a kernel that refuses, the limits alone hold.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
ALLOW = 0x7FFF0000
ERRNO = 0x00050000

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True, slots=True)
class Table:
    """System call numbers of one processor architecture."""

    architecture: int
    refused: Sequence[int]
    """Processes, tracing, sockets, kernel facilities: EPERM."""
    changing: Sequence[int]
    """Calls that change the file system by name: EROFS."""
    open_flags: Sequence[tuple[int, int]]
    """Calls that open a file, with the position of their flags."""
    own_process_only: Sequence[int]
    """Signals: allowed to the process itself."""
    unknown: Sequence[int]
    """Newer calls that would get round the others: ENOSYS, so that libraries fall back."""
    limits: int
    """prlimit64: allowed for the process itself, written as 0."""


# io_uring, pidfds and the like have the same numbers everywhere.
COMMON_REFUSED = (424, 425, 426, 427, 434, 438)
TABLES = {
    "x86_64": Table(
        architecture=0xC000003E,
        refused=(29, 41, 42, 49, 50, 53, 56, 57, 58, 59, 101, 165, 166, 248, 249, 250, 272, 298, 308, 310, 311, 321, 322, 323)
        + COMMON_REFUSED,
        changing=(76, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 132, 133, 188, 189, 190, 235, 258, 259, 260, 261, 263, 264, 265)
        + (266, 268, 280, 316, 452),
        open_flags=((2, 1), (257, 2)),
        own_process_only=(62, 200, 234),
        unknown=(435, 437),
        limits=302,
    ),
    "aarch64": Table(
        architecture=0xC00000B7,
        refused=(39, 40, 97, 117, 194, 198, 199, 200, 201, 203, 217, 218, 219, 220, 221, 241, 268, 270, 271, 280, 281, 282)
        + COMMON_REFUSED,
        changing=(5, 6, 7, 33, 34, 35, 36, 37, 38, 45, 52, 53, 54, 55, 88, 276, 452),
        open_flags=((56, 2),),
        own_process_only=(129, 130, 131),
        unknown=(435, 437),
        limits=261,
    ),
}


def install(machine: str) -> bool:
    """Put the filter on this process for good; False if that isn't possible here."""
    table = TABLES.get(machine)
    if table is None:
        return False
    code = program(table, os.getpid())
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    described = Program(len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(described), 0, 0) == 0)


def program(table: Table, own_pid: int) -> bytes:
    """The filter: each rule is one comparison of the number and its answer."""
    code: list[bytes] = [
        _step(LOAD, ARCHITECTURE_AT),
        _step(EQUAL, table.architecture, yes=1),
        _step(RETURN, ERRNO | errno.EPERM),
        _step(LOAD, NUMBER_AT),
    ]
    if table.architecture == 0xC000003E:
        # The same calls again under the numbers of the x32 interface.
        code += [_step(AT_LEAST, 0x40000000, no=1), _step(RETURN, ERRNO | errno.EPERM)]
    for numbers, error in ((table.refused, errno.EPERM), (table.changing, errno.EROFS), (table.unknown, errno.ENOSYS)):
        for number in numbers:
            code += [_step(EQUAL, number, no=1), _step(RETURN, ERRNO | error)]
    for number, position in table.open_flags:
        code += [
            _step(EQUAL, number, no=4),
            _step(LOAD, ARGUMENTS_AT + 8 * position),
            _step(ANY_BIT, WRITING, no=1),
            _step(RETURN, ERRNO | errno.EROFS),
            _step(RETURN, ALLOW),
        ]
    own = [(number, own_pid) for number in table.own_process_only] + [(table.limits, 0)]
    for number, pid in own:
        code += [
            _step(EQUAL, number, no=4),
            _step(LOAD, ARGUMENTS_AT),
            _step(EQUAL, pid, yes=1),
            _step(RETURN, ERRNO | errno.EPERM),
            _step(RETURN, ALLOW),
        ]
    code.append(_step(RETURN, ALLOW))
    return b"".join(code)


def _step(operation: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", operation, yes, no, value)
