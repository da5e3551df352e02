"""The system calls that user code may not make, with their numbers on each processor and the error that they get."""

from __future__ import annotations

import errno

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Processors that the table has, with their numbers in linux/audit.h."""

TABLE = """
name              x86_64 aarch64 error
shmget                29     194 EPERM
socket                41     198 EPERM
connect               42     203 EPERM
bind                  49     200 EPERM
listen                50     201 EPERM
socketpair            53     199 EPERM
clone                 56     220 EPERM
fork                  57       - EPERM
vfork                 58       - EPERM
execve                59     221 EPERM
ptrace               101     117 EPERM
rt_sigqueueinfo      129     138 EPERM
mount                165      40 EPERM
umount2              166      39 EPERM
mq_open              240     180 EPERM
add_key              248     217 EPERM
request_key          249     218 EPERM
keyctl               250     219 EPERM
unshare              272      97 EPERM
rt_tgsigqueueinfo    297     240 EPERM
perf_event_open      298     241 EPERM
setns                308     268 EPERM
process_vm_readv     310     270 EPERM
process_vm_writev    311     271 EPERM
bpf                  321     280 EPERM
execveat             322     281 EPERM
userfaultfd          323     282 EPERM
pidfd_send_signal    424     424 EPERM
io_uring_setup       425     425 EPERM
io_uring_enter       426     426 EPERM
io_uring_register    427     427 EPERM
pidfd_open           434     434 EPERM
pidfd_getfd          438     438 EPERM
process_madvise      440     440 EPERM
truncate              76      45 EROFS
rename                82       - EROFS
mkdir                 83       - EROFS
rmdir                 84       - EROFS
creat                 85       - EROFS
link                  86       - EROFS
unlink                87       - EROFS
symlink               88       - EROFS
chmod                 90       - EROFS
fchmod                91      52 EROFS
chown                 92       - EROFS
fchown                93      55 EROFS
lchown                94       - EROFS
utime                132       - EROFS
mknod                133       - EROFS
setxattr             188       5 EROFS
lsetxattr            189       6 EROFS
fsetxattr            190       7 EROFS
removexattr          197      14 EROFS
lremovexattr         198      15 EROFS
fremovexattr         199      16 EROFS
utimes               235       - EROFS
mkdirat              258      34 EROFS
mknodat              259      33 EROFS
fchownat             260      54 EROFS
futimesat            261       - EROFS
unlinkat             263      35 EROFS
renameat             264      38 EROFS
linkat               265      37 EROFS
symlinkat            266      36 EROFS
fchmodat             268      53 EROFS
utimensat            280      88 EROFS
renameat2            316     276 EROFS
fchmodat2            452     452 EROFS
clone3               435     435 ENOSYS
openat2              437     437 ENOSYS
"""
"""EPERM: processes, tracing, sockets, kernel facilities. EROFS: changes of the file system. ENOSYS: newer calls that would get round
others, so that libraries fall back to those."""

OPENING = {"x86_64": ((2, 1), (257, 2)), "aarch64": ((56, 2),)}
"""open and openat, with the position of their flags: refused for writing."""

SOCKET = {"x86_64": 41, "aarch64": 198}
CONNECT = {"x86_64": 42, "aarch64": 203}
"""Allowed for IP where the tier allows connections."""

OWN_PROCESS = {"x86_64": (62, 200, 234), "aarch64": (129, 130, 131)}
"""kill, tkill, tgkill: allowed to the process itself."""

LIMITS = {"x86_64": 302, "aarch64": 261}
"""prlimit64: allowed for the process itself, which is written as 0."""


def refused(machine: str) -> list[tuple[int, int]]:
    """Numbers of the calls that are refused outright on this processor, and the error that each gets."""
    heading, *rows = [line.split() for line in TABLE.strip().splitlines()]
    column = heading.index(machine)
    return [(int(row[column]), getattr(errno, row[3])) for row in rows if row[column] != "-"]
