"""The agent's side of the sandbox: starts the warm process, hands out runs, keeps the time, stops what is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dexorder_agent.errors import SandboxError
from dexorder_agent.log import event
from dexorder_agent.sandbox import outcome, wire
from dexorder_agent.settings import Limits

logger = logging.getLogger(__name__)

SHOWN_PRINT = 4096
DRAWING_MIB = 256
DRAWING_SECONDS = 10.0
"""What a chart may take at least: the limits are for the user's code."""
EXPECT_SECONDS = 0.1
WARM_SECONDS = 300.0
"""So long after the last run the warm process is kept. It takes as much memory as all the rest."""


@dataclass(frozen=True, slots=True)
class Job:
    """One call of a function in a file of the user's."""

    path: str
    module: str
    source: str
    function: str
    columns: Sequence[array[float]]
    parameters: dict[str, Any]
    outputs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gave."""

    arrays: list[array[float]]
    printed: str
    milliseconds: float


class Pool:
    """Runs jobs. A run that fails, hangs or is cancelled takes nothing else with it."""

    def __init__(self, repository: Path, limits: Limits, site: Callable[[], str | None] = lambda: None) -> None:
        self._site = site
        self._repository = repository
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.concurrent_runs)
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._ready: asyncio.Future[None] | None = None
        self._ended: dict[int, asyncio.Future[int]] = {}
        self._number = 0
        self._expecting: asyncio.Task[None] | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._ability: tuple[bool, int] | None = None
        self.running: dict[int, str] = {}

    def expect(self) -> None:
        """A run is likely soon: have the warm process up by then."""
        if self._ready is None and (self._expecting is None or self._expecting.done()):
            self._expecting = asyncio.create_task(self._expect())

    async def _expect(self) -> None:
        # The request that made the run likely is answered first.
        await asyncio.sleep(EXPECT_SECONDS)
        with contextlib.suppress(SandboxError, OSError):
            await self.start()

    async def start(self) -> None:
        """Have the warm process up."""
        async with self._starting:
            if self._ready is not None:
                await asyncio.shield(self._ready)
                return
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            ready = loop.create_future()
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "dexorder_agent.sandbox.zygote",
                    str(theirs.fileno()),
                    str(self._repository),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    env=_environment(),
                )
            except OSError:
                ours.close()
                raise
            finally:
                theirs.close()
            self._control, self._ready = ours, ready
            loop.add_reader(ours, self._told, ours)
            self._rest_later()
            await asyncio.shield(ready)

    def _rest_later(self) -> None:
        """End the warm process when it has not been needed for a while."""
        if self._resting is not None:
            self._resting.cancel()
        self._resting = asyncio.get_running_loop().call_later(WARM_SECONDS, self._rest)

    def _rest(self) -> None:
        if self.running or self._control is None:
            self._rest_later()
            return
        control, self._control, self._ready = self._control, None, None
        asyncio.get_running_loop().remove_reader(control)
        # It ends when its socket is closed.
        control.close()

    def _told(self, control: socket.socket) -> None:
        """Take in what the warm process says; it closing the socket means that it ended."""
        try:
            message = control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._lost(control)
            return
        told = json.loads(message)
        if told.get("ready"):
            self._note_ability(told)
        if told.get("ready") and self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
        ended = self._ended.pop(told.get("run", 0), None)
        if ended is not None and not ended.done():
            ended.set_result(told["status"])

    def _note_ability(self, told: dict[str, Any]) -> None:
        """Say once how well the code is shut in."""
        ability = (bool(told["seccomp"]), int(told["landlock"]))
        if ability != self._ability:
            self._ability = ability
            event(logger, "user code is shut in", seccomp=ability[0], landlock_version=ability[1])
            if not all(ability):
                logger.warning("this kernel has not all that shuts user code in: what is missing is listed above as false or 0")

    def _lost(self, control: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(control)
        control.close()
        if self._control is not control:
            return
        logger.warning("the warm process ended")
        error = SandboxError("the process that runs code ended unexpectedly: call again")
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
        for ended in self._ended.values():
            if not ended.done():
                ended.set_exception(error)
                ended.exception()
        self._ended.clear()
        self._control = self._ready = None

    async def run(self, job: Job, label: str) -> Outcome:
        """Run a job to its end, to its time limit, or to the cancellation of the caller."""
        header = {
            "path": job.path,
            "module": job.module,
            "source": job.source,
            "function": job.function,
            "parameters": job.parameters,
            "outputs": list(job.outputs),
            "site": self._site(),
            "memory_mib": self._limits.memory_mib,
            "seconds": self._limits.seconds,
        }
        blobs, printed, milliseconds = await self._in_child(header, job.columns, label)
        return Outcome(_arrays(job, blobs), printed, milliseconds)

    async def draw(self, spec: dict[str, Any], columns: Sequence[array[float]]) -> bytes:
        """Draw a chart as PNG (see chart/draw.py)."""
        header = {
            "path": "the chart",
            "draw": spec,
            "memory_mib": max(DRAWING_MIB, self._limits.memory_mib),
            "seconds": max(DRAWING_SECONDS, self._limits.seconds),
        }
        blobs, _, _ = await self._in_child(header, columns, "chart")
        if len(blobs) != 1 or not blobs[0].startswith(b"\x89PNG"):
            raise SandboxError("the chart could not be drawn")
        return blobs[0]

    async def _in_child(self, header: dict[str, Any], columns: Sequence[array[float]], label: str) -> tuple[list[bytes], str, float]:
        """Have a child do something; what it gave, what it printed, and how many milliseconds that took."""
        async with self._slots:
            await self.start()
            control = self._control
            if control is None:
                raise SandboxError("the process that runs code ended unexpectedly: call again")
            self._number += 1
            number = self._number
            self.running[number] = label
            try:
                return await self._run(header, columns, number, control)
            finally:
                del self.running[number]
                self._rest_later()

    async def _run(
        self, header: dict[str, Any], columns: Sequence[array[float]], number: int, control: socket.socket
    ) -> tuple[list[bytes], str, float]:
        started = time.perf_counter()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        printed = os.memfd_create("printed", os.MFD_CLOEXEC)
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._ended[number] = ended
        try:
            with theirs:
                socket.send_fds(control, [json.dumps({"run": number}).encode()], [theirs.fileno(), printed])
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=1 << 20)
            try:
                async with asyncio.timeout(header["seconds"]):
                    blobs = await self._exchange(header, columns, reader, writer, ended)
            except TimeoutError:
                raise SandboxError(
                    f"{header['path']} ran longer than the {header['seconds']:g} s that a run may take and was stopped"
                ) from None
            finally:
                writer.close()
            return blobs, _text(printed), round((time.perf_counter() - started) * 1000, 3)
        finally:
            if not ended.done():
                self._kill(control, number)
            ours.close()
            os.close(printed)

    async def _exchange(
        self,
        header: dict[str, Any],
        columns: Sequence[array[float]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ended: asyncio.Future[int],
    ) -> list[bytes]:
        path = header["path"]
        limits = self._limits
        limited = {**header, "printed_bytes": limits.printed_bytes, "egress": limits.egress}
        try:
            writer.write(wire.pack(limited, [column.tobytes() for column in columns]))
            await writer.drain()
            lengths = wire.unpack_lengths(await reader.readexactly(wire.LENGTH.size), self._limits.result_bytes)
            answer, blobs = wire.unpack(await reader.readexactly(lengths[0]), await reader.readexactly(lengths[1]))
        except (asyncio.IncompleteReadError, ConnectionError):
            # The child is gone without an answer: the warm process knows how it ended.
            status = await ended
            raise SandboxError(f"{path}: the code {outcome.describe(status, self._limits.printed_bytes)}") from None
        except (ValueError, AttributeError):
            raise SandboxError(f"{path}: the code gave an answer that can't be read or is too large") from None
        if answer.get("ok") is not True:
            raise SandboxError(str(answer.get("error"))[:2000])
        return blobs

    def _kill(self, control: socket.socket, number: int) -> None:
        self._ended.pop(number, None)
        try:
            control.send(json.dumps({"kill": number}).encode())
        except OSError:
            event(logger, "a run could not be stopped: the warm process is gone")

    async def close(self) -> None:
        """End the warm process and with it every child."""
        control, process = self._control, self._process
        self._control = self._ready = None
        if self._resting is not None:
            self._resting.cancel()
        if self._expecting is not None:
            self._expecting.cancel()
            await asyncio.gather(self._expecting, return_exceptions=True)
        if control is not None:
            asyncio.get_running_loop().remove_reader(control)
            control.close()
        if process is not None:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()


def _arrays(job: Job, blobs: list[bytes]) -> list[array[float]]:
    length = len(job.columns[0])
    if len(blobs) != len(job.outputs) or any(len(blob) != length * wire.FLOAT_BYTES for blob in blobs):
        raise SandboxError(f"{job.path}: the code gave an answer of the wrong size")
    arrays = []
    for blob in blobs:
        values = array("d")
        values.frombytes(blob)
        arrays.append(values)
    return arrays


def _text(printed: int) -> str:
    os.lseek(printed, 0, os.SEEK_SET)
    return os.read(printed, SHOWN_PRINT).decode("utf-8", "replace")


def _environment() -> dict[str, str]:
    """Nothing of the agent's environment but where Python and its packages are."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV") if name in os.environ}
    # One thread: children are forked, and the pod has a share of a core.
    single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**kept, **single, "HOME": "/tmp", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
