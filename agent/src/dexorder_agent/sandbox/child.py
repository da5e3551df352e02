"""What happens in the child: take the job, give up what isn't needed, run the code, answer."""

from __future__ import annotations

import contextlib
import errno
import linecache
import os
import platform
import socket
import sys
import traceback
from types import ModuleType
from typing import Any

import numpy as np

from dexorder_agent.sandbox import limits, seccomp, sight, wire

MACHINE = platform.machine()
MAX_TEXT = 500
REFUSALS = (errno.EPERM, errno.EAGAIN, errno.EROFS, errno.EAFNOSUPPORT)
NETWORK = {"None": "use the network", "Web": "use the network but for web requests", "Any": "open servers"}
"""What a run can't do on the network, by what the tier allows."""


class Unusable(Exception):
    """The code ran but gave something that isn't a result."""


def run(job: socket.socket, repository: str) -> None:
    """Do one job; the process ends after this."""
    header, blobs = _receive(job)
    limits.apply(seconds=header["seconds"], memory_mib=header["memory_mib"], printed_bytes=header["printed_bytes"])
    sight.narrow(repository, header.get("site"), header["egress"])
    seccomp.install(MACHINE, network=header["egress"] != "None")
    try:
        answer = _drawn(header["draw"], blobs) if "draw" in header else _succeed(header, blobs, repository)
    except BaseException as error:
        answer = wire.pack(_failure(error, header, repository))
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    job.sendall(answer)


def _drawn(spec: dict[str, Any], blobs: list[bytes]) -> bytes:
    """Draw a chart; there is no code of the user's in this."""
    from dexorder_agent.chart.draw import png

    return wire.pack({"ok": True}, [png(spec, [np.frombuffer(blob, dtype=np.float64) for blob in blobs])])


def _succeed(header: dict[str, Any], blobs: list[bytes], repository: str) -> bytes:
    columns = [np.frombuffer(blob, dtype=np.float64).copy() for blob in blobs]
    path = os.path.join(repository, header["path"])
    # Tracebacks quote the source that runs, not what is in the file by then.
    linecache.cache[path] = (len(header["source"]), None, header["source"].splitlines(True), path)
    sys.path.insert(0, repository)
    if header["site"]:
        # Last, so that no package of the user's hides one of the base.
        sys.path.append(header["site"])
    module = ModuleType(header["module"])
    module.__file__ = path
    sys.modules[header["module"]] = module
    exec(compile(header["source"], path, "exec"), module.__dict__)
    returned = getattr(module, header["function"])(*columns, **header["parameters"])
    arrays = _arrays(returned, header["outputs"], len(columns[0]), header["function"])
    return wire.pack({"ok": True}, [array.tobytes() for array in arrays])


def _arrays(returned: Any, outputs: list[str], length: int, function: str) -> list[np.ndarray]:
    if isinstance(returned, dict):
        if set(returned) != set(outputs):
            raise Unusable(f"{function} returned {sorted(map(str, returned))}, but its outputs are {outputs}")
        values = [returned[name] for name in outputs]
    elif len(outputs) == 1 and not (isinstance(returned, tuple) and len(returned) == 1):
        values = [returned]
    elif isinstance(returned, tuple | list):
        values = list(returned)
    else:
        raise Unusable(f"{function} returned {type(returned).__name__}, but must return {len(outputs)} arrays: {', '.join(outputs)}")
    if len(values) != len(outputs):
        raise Unusable(f"{function} returned {len(values)} arrays, but its outputs are {len(outputs)}: {', '.join(outputs)}")
    arrays = []
    for name, value in zip(outputs, values, strict=True):
        if value is None:
            raise Unusable(f"the output {name} is None, which is no array of numbers: {function} must return it")
        try:
            array = np.ascontiguousarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise Unusable(f"the output {name} is {type(value).__name__}, which is no array of numbers") from None
        if array.shape != (length,):
            raise Unusable(f"the output {name} has the shape {array.shape}, but must have one value for each bar: ({length},)")
        arrays.append(array)
    return arrays


def _failure(error: BaseException, header: dict[str, Any], repository: str) -> dict[str, Any]:
    """The error in words: where in the user's files, and what."""
    place = header["path"]
    prefix = repository.rstrip("/") + "/"
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(prefix):
            place = f"{frame.filename[len(prefix) :]} line {frame.lineno}"
    if isinstance(error, Unusable):
        return {"ok": False, "error": f"{place}: {error}"}
    if isinstance(error, MemoryError):
        return {"ok": False, "error": f"{place}: the code needs more than the {header['memory_mib']} MiB of memory that a run may use"}
    if isinstance(error, SystemExit):
        return {"ok": False, "error": f"{place}: the code called exit instead of returning a result"}
    what = f"{type(error).__name__}: {str(error)[:MAX_TEXT]}" if str(error) else type(error).__name__
    note = ""
    if (isinstance(error, OSError) and error.errno in REFUSALS) or (isinstance(error, RuntimeError) and "thread" in str(error)):
        note = f" (a run can't start processes or threads, write files or {NETWORK[header['egress']]})"
    elif isinstance(error, PermissionError):
        beyond = "" if header["egress"] == "Any" else f", and can't {NETWORK[header['egress']]}"
        note = f" (a run can read the files of its workspace and of Python alone{beyond})"
    return {"ok": False, "error": f"{place}: {what}{note}"}


def _receive(job: socket.socket) -> tuple[dict[str, Any], list[bytes]]:
    header, blobs = wire.unpack_lengths(_exactly(job, wire.LENGTH.size), 1 << 31)
    return wire.unpack(_exactly(job, header), _exactly(job, blobs))


def _exactly(job: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = job.recv(min(count - len(parts), 1 << 20))
        if not part:
            os._exit(0)
        parts += part
    return bytes(parts)
