"""The user's environment on the volume: made anew for each change beside the one in use, which stays until the new one is whole."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dexorder_agent.background import Background
from dexorder_agent.calls import here
from dexorder_agent.errors import WorkspaceError
from dexorder_agent.log import event
from dexorder_agent.packages import listing, problems
from dexorder_agent.repo.group import Edits, Read
from dexorder_agent.repo.repository import Change, Repository

logger = logging.getLogger(__name__)

CURRENT = "current"
MARK = ".dexorder.json"
SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
INSTALL_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Installed:
    """One package in the user's environment."""

    name: str
    version: str
    build: str
    requested: bool


class Environment:
    """One change at a time."""

    def __init__(self, folder: Path, channel: str, repository: Repository) -> None:
        self._folder = folder
        self._channel = channel
        self._repository = repository
        self._lock = asyncio.Lock()
        self._background = Background()
        self.busy: str | None = None
        self.problem: str | None = None
        repository.listeners.append(self._heard)

    @property
    def site(self) -> str | None:
        """The folder that the user's code imports these packages from, None if there is none."""
        folder = self._folder / CURRENT / SITE
        return str(folder.resolve()) if folder.is_dir() else None

    @cached_property
    def base(self) -> dict[str, str]:
        """The packages that every workspace has, with their versions as conda writes them."""
        found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}.*"}
        records = sorted(Path(sys.prefix, "conda-meta").glob("*.json"))
        for record in records:
            described = json.loads(record.read_text())
            found[listing.normal(described["name"])] = f"=={described['version']}"
        if not records:
            for distribution in importlib.metadata.distributions():
                found[listing.normal(distribution.metadata["Name"])] = f"=={distribution.version}"
        return found

    async def installed(self) -> list[Installed]:
        """What is in the environment in use."""
        found = []
        wanted = {listing.check(spec) for spec in await self.wanted()}
        for record in sorted((self._folder / CURRENT / "conda-meta").glob("*.json")):
            described = json.loads(record.read_text())
            name = described["name"]
            found.append(Installed(name, described["version"], described["build"], name in wanted))
        return found

    async def wanted(self) -> tuple[str, ...]:
        """What the file in the repository asks for. Of a file that can't be read `problem` tells what is wrong."""
        try:
            return listing.parse(await self._text()).specs
        except WorkspaceError as error:
            self.problem = str(error)
            return ()

    async def change(self, message: str, edit: Callable[[str], str]) -> Change:
        """Change the list of packages and the environment with it: both, or on an error neither."""
        built = asyncio.Event()
        # In a task of its own: one that is cancelled in the middle still removes what it has made.
        changing = asyncio.create_task(self._change(message, edit, built))
        try:
            return await asyncio.shield(changing)
        except asyncio.CancelledError:
            if not built.is_set():
                changing.cancel()
            raise

    async def _change(self, message: str, edit: Callable[[str], str], built: asyncio.Event) -> Change:
        async with self._lock:
            before = await self._text()
            after = edit(before)
            prefix = await self._build(after)
            built.set()

            def replace(read: Read) -> Edits:
                if (read(listing.FILE) or b"").decode("utf-8", "replace") != before:
                    raise WorkspaceError(f"{listing.FILE} was changed in the meantime: call again")
                return {listing.FILE: after.encode()}

            try:
                change = await self._repository.update(message, replace)
            except WorkspaceError:
                if prefix is not None:
                    await asyncio.to_thread(shutil.rmtree, prefix, True)
                raise
            self._switch(prefix)
            return change

    def follow(self) -> None:
        """Make the environment what the list in the repository asks for, in the background."""
        self._background.start(self._follow)

    async def close(self) -> None:
        """Stop what goes on in the background."""
        await self._background.close()

    def _heard(self, paths: frozenset[str]) -> None:
        if listing.FILE in paths:
            self.follow()

    async def _follow(self) -> None:
        async with self._lock:
            try:
                text = await self._text()
                if self._stamp(text) != self._mark():
                    self._switch(await self._build(text))
                    event(logger, "packages installed")
                self.problem = None
            except (WorkspaceError, OSError) as error:
                self.problem = str(error)
                logger.warning("the packages that the repository lists could not be installed")

    async def _text(self) -> str:
        return (await self._repository.read(listing.FILE) or b"").decode("utf-8", "replace")

    def _stamp(self, text: str) -> str:
        """What an environment depends on. None is needed for an empty list."""
        wanted = listing.parse(text)
        if not wanted.specs:
            return ""
        parts = [sorted(wanted.specs), wanted.channels or (self._channel,), sorted(self.base.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _mark(self) -> str:
        try:
            return str(json.loads((self._folder / CURRENT / MARK).read_text())["made_for"])
        except (OSError, ValueError, KeyError):
            return ""

    async def _build(self, text: str) -> Path | None:
        """A new prefix with what the list asks for, None if that is nothing."""
        stamp = self._stamp(text)
        if not stamp:
            return None
        wanted = listing.parse(text)
        for spec in wanted.specs:
            if listing.check(spec) in self.base:
                name = listing.check(spec)
                raise WorkspaceError(f"package {name} can't be changed: every workspace has {name} {self.base[name].lstrip('=')}")
        prefix = self._folder / f"prefix-{stamp[:16]}-{os.urandom(4).hex()}"
        order = {
            "channels": list(wanted.channels or (self._channel,)),
            "specs": list(wanted.specs),
            "base": self.base,
            "prefix": str(prefix),
        }
        self.busy = f"install packages: {', '.join(wanted.specs)}"[:200]
        try:
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
            await self._install(order)
            (prefix / MARK).write_text(json.dumps({"made_for": stamp}))
        except BaseException:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, prefix, True))
            raise
        finally:
            self.busy = None
        return prefix

    async def _install(self, order: dict[str, Any]) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "dexorder_agent.packages.install",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_environment(self._folder),
            limit=1 << 20,
        )
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(order).encode())
            process.stdin.close()
            told: dict[str, Any] = {}
            async with asyncio.timeout(INSTALL_SECONDS):
                async for line in process.stdout:
                    told = json.loads(line)
                    if "message" in told:
                        await here().progress(told["done"], told["total"], told["message"])
                await process.wait()
        except TimeoutError:
            raise WorkspaceError(f"the packages could not be installed within {INSTALL_SECONDS} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if "error" in told:
            reason = problems.explained(str(told["error"]), unsolved=bool(told.get("unsolved")), channels=order["channels"], base=self.base)
            raise WorkspaceError(f"the packages can't be installed: {reason}")
        if not told.get("installed"):
            raise WorkspaceError("the packages can't be installed: the installer ended without an answer")

    def _switch(self, prefix: Path | None) -> None:
        """Use the new prefix, and remove all but it and the one before, which running code may still import from."""
        current = self._folder / CURRENT
        before = current.resolve() if current.is_symlink() else None
        if prefix is None:
            current.unlink(missing_ok=True)
        else:
            link = self._folder / f".{CURRENT}"
            link.unlink(missing_ok=True)
            link.symlink_to(prefix.name)
            link.rename(current)
        for old in self._folder.glob("prefix-*"):
            if old not in (prefix, before):
                shutil.rmtree(old, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    kept = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "HOME": "/tmp",
        "LC_ALL": "C.UTF-8",
        "RATTLER_CACHE_DIR": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
