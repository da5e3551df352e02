"""Runs git on the repository, with the settings that make a commit durable and independent of the machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path


class GitError(Exception):
    """Git ended with an error."""

    def __init__(self, command: Sequence[str], code: int, output: str) -> None:
        super().__init__(f"git {_name(command)} ended with status {code}: {output.strip()[-500:]}")
        self.code = code


def _name(command: Sequence[str]) -> str:
    """The subcommand, without the settings before it."""
    rest = list(command)
    while len(rest) > 2 and rest[0] == "-c":
        rest = rest[2:]
    return rest[0]


SETTINGS = {
    # A commit that was acknowledged survives a power cut: each object, then the branch, reaches the disk.
    "core.fsync": "objects,pack-metadata,reference",
    "core.fsyncMethod": "fsync",
    # Packing is the agent's own (pack.py): git's keeps no order that holds when it is broken off.
    "gc.auto": "0",
    "maintenance.auto": "false",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.quotePath": "false",
    "core.autocrlf": "false",
    "commit.gpgSign": "false",
    "advice.detachedHead": "false",
    "safe.directory": "*",
    "protocol.allow": "never",
}


class Git:
    """Git in one folder."""

    def __init__(self, folder: Path, author: str) -> None:
        self.folder = folder
        self.author = author

    @property
    def author(self) -> str:
        """Whose commits these are."""
        return self._author

    @author.setter
    def author(self, author: str) -> None:
        self._author = author
        self.environment = environment(author)
        """The whole environment of its processes."""

    async def run(self, *command: str, ok: tuple[int, ...] = (0,), given: str | None = None) -> str:
        """Run a git command and return what it printed; `given` is its input."""
        return (await self.run_bytes(*command, ok=ok, given=given)).decode("utf-8", "replace")

    async def run_bytes(self, *command: str, ok: tuple[int, ...] = (0,), given: str | None = None) -> bytes:
        """As `run`, undecoded."""
        process = await self.start(*command, given=given is not None)
        try:
            output, errors = await process.communicate(None if given is None else given.encode())
        except BaseException:
            # Who gave up waiting must not leave it behind.
            if process.returncode is None:
                process.kill()
            raise
        code = process.returncode or 0
        if code not in ok:
            raise GitError(command, code, errors.decode("utf-8", "replace"))
        return output

    async def start(self, *command: str, given: bool = False) -> asyncio.subprocess.Process:
        """Start a git command; its output is for the caller to read."""
        return await asyncio.create_subprocess_exec(
            "git",
            *command,
            cwd=self.folder,
            env=self.environment,
            stdin=asyncio.subprocess.PIPE if given else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    def reference(self) -> str:
        """What names the newest commit, below git's folder: the branch, or HEAD itself."""
        text = (self.folder / ".git" / "HEAD").read_text().strip()
        return text[5:] if text.startswith("ref: ") else "HEAD"

    def head(self) -> str | None:
        """The commit of the branch, read from the file: the cheapest way, and enough for loose and packed refs."""
        folder = self.folder / ".git"
        try:
            name = self.reference()
            try:
                return (folder / name).read_text().strip() or None
            except FileNotFoundError:
                for line in (folder / "packed-refs").read_text().splitlines():
                    commit, _, packed = line.partition(" ")
                    if packed == name:
                        return commit
        except FileNotFoundError:
            pass
        return None


COMMITTER = ("Dexorder workspace", "workspace@workspace.invalid")
NOT_AT_ENDS = "".join(map(chr, range(33))) + ".,:;<>\"'\\"
"""Git takes these from the ends of a name, and refuses one of which nothing is left."""


def identity(author: str) -> tuple[str, str]:
    """A user's name and address in a commit."""
    name = "".join(character for character in author if character.isprintable() and character not in "<>\n")[:100].strip(NOT_AT_ENDS)
    email = "".join(character if character.isascii() and character.isalnum() else "-" for character in name)
    return name or "user", f"{email or 'user'}@workspace.invalid"


def environment(author: str) -> dict[str, str]:
    """The whole environment of a git process: nothing of the machine's configuration gets in."""
    name, email = identity(author)
    variables = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": COMMITTER[0],
        "GIT_COMMITTER_EMAIL": COMMITTER[1],
        # A branch is a file: it is moved without git.
        "GIT_DEFAULT_REF_FORMAT": "files",
        "GIT_CONFIG_COUNT": str(len(SETTINGS)),
    }
    for number, (key, value) in enumerate(SETTINGS.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables
