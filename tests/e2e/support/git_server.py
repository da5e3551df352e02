"""A git remote on this machine that the workspaces of the cluster reach over SSH, with a key that a Secret holds."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

from support.waiting import eventually

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
IDENTITY = ("-c", "user.name=person", "-c", "user.email=person@example.org", "-c", "safe.directory=*")


class GitServer:
    """An OpenSSH server for one bare repository, until it is left."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder
        self.bare = folder / "remote.git"
        self._clone = folder / "clone"
        self._git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        self._git(folder, "clone", "--quiet", str(self.bare), str(self._clone))
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        with socket.create_server((address, 0)) as free:
            port = int(free.getsockname()[1])
        self.url = f"ssh://{getpass.getuser()}@{address}:{port}{self.bare}"
        kind, key = (folder / "host.pub").read_text().split()[:2]
        self.credential = {
            "ssh-privatekey": (folder / "user").read_text(),
            "known_hosts": f"[{address}]:{port} {kind} {key}\n",
        }
        settings = {
            "Port": port,
            "ListenAddress": address,
            "HostKey": folder / "host",
            "AuthorizedKeysFile": folder / "user.pub",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
        }
        (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))

    def __enter__(self) -> Self:
        assert SSHD is not None
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        log = self._folder / "log"
        with log.open("wb") as errors:
            command = [SSHD, "-D", "-e", "-f", str(self._folder / "config")]
            self._server = subprocess.Popen(command, stderr=errors)
        eventually("a server of git", lambda: "listening" in log.read_text(), within=20)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.terminate()
        self._server.wait(20)

    def commit(self, path: str, content: str) -> str:
        """Commit and push a file as a person does from another machine; the commit."""
        if self.commits("main"):
            self._git(self._clone, "pull", "--quiet", "origin", "main")
        file = self._clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        self._git(self._clone, "add", "--all")
        self._git(self._clone, "commit", "--quiet", "--message", f"Write {path} elsewhere")
        self._git(self._clone, "push", "--quiet", "origin", "HEAD:main")
        return self._git(self._clone, "rev-parse", "HEAD")

    def commits(self, branch: str) -> list[str]:
        """The commits of a branch, newest first; none if there is no such branch."""
        if not self._git(self.bare, "branch", "--list", branch):
            return []
        return self._git(self.bare, "rev-list", branch).split()

    def read(self, branch: str, path: str) -> str:
        """A file of a branch."""
        return self._git(self.bare, "show", f"{branch}:{path}")

    def _git(self, folder: Path, *command: str) -> str:
        done = subprocess.run(["git", *IDENTITY, *command], cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()
