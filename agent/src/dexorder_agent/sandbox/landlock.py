"""What of the file system the user's code can see, and which ports it can reach: the kernel's Landlock, called through ctypes.

The layout is that of linux/landlock.h. A kernel without it, or with less of it, restricts less: `version` tells, and the agent logs it.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable, Sequence

CREATE, ADD, RESTRICT = 444, 445, 446
"""The same numbers on every processor."""

ONLY_VERSION = 1
PATH_BENEATH, NET_PORT = 1, 2
PR_SET_NO_NEW_PRIVS = 38

READ_FILE, READ_DIR = 1 << 2, 1 << 3
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many rights on files each version has."""

BIND, CONNECT = 1 << 0, 1 << 1
ABSTRACT_SOCKETS_AND_SIGNALS = 3
PORTS_SINCE, SCOPES_SINCE = 4, 6

SYSTEM = (
    "/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/usr/share/zoneinfo", "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/ld.so.cache", "/etc/localtime",
    "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols",
    "/dev/null", "/dev/zero", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu",
)  # fmt: skip
"""What programs need wherever they run. Nothing of this is anybody's own."""


def version() -> int:
    """What the kernel has: 0 is nothing."""
    return max(0, int(_libc().syscall(CREATE, None, ctypes.c_size_t(0), ONLY_VERSION)))


def restrict(*, readable: Iterable[str], listed: Iterable[str], ports: Sequence[int] | None) -> bool:
    """Leave this process, for good, only files below the readable paths, names below the listed ones, and TCP connections to the ports
    (None: to any); False if the kernel has no Landlock."""
    known = version()
    if known == 0:
        return False
    libc = _libc()
    files = (1 << FILE_RIGHTS[min(known, max(FILE_RIGHTS))]) - 1
    attributes = struct.pack("<Q", files)
    connects = known >= PORTS_SINCE and ports is not None
    if known >= PORTS_SINCE:
        attributes += struct.pack("<Q", BIND | (CONNECT if connects else 0))
    if known >= SCOPES_SINCE:
        attributes += struct.pack("<Q", ABSTRACT_SOCKETS_AND_SIGNALS)
    rules = libc.syscall(CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return False
    try:
        for path in readable:
            _allow(libc, rules, path, READ_FILE | READ_DIR)
        for path in listed:
            _allow(libc, rules, path, READ_DIR)
        for port in ports or () if connects else ():
            libc.syscall(ADD, rules, NET_PORT, struct.pack("<QQ", CONNECT, port), 0)
        if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            return False
        return bool(libc.syscall(RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    """A path that isn't there needs no rule."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if libc.syscall(ADD, rules, PATH_BENEATH, struct.pack("<Qi", rights, descriptor), 0) < 0:
            # Of a single file there is nothing to list.
            libc.syscall(ADD, rules, PATH_BENEATH, struct.pack("<Qi", rights & ~READ_DIR, descriptor), 0)
    finally:
        os.close(descriptor)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
