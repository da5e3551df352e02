"""A git remote of the user's: copied from, kept in step with, and never overwritten."""

from __future__ import annotations

import base64
import getpass
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import Agent, wait_until

pytestmark = pytest.mark.anyio

PASSWORD = "open-sesame"
IDENTITY = ("-c", "user.name=person", "-c", "user.email=person@example.org", "-c", "safe.directory=*")


def git(folder: Path, *command: str) -> str:
    return subprocess.run(["git", *IDENTITY, *command], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An empty repository on the other side."""
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "remote.git")
    return tmp_path / "remote.git"


@pytest.fixture
def connected(tmp_path: Path, bare: Path) -> Iterator[Agent]:
    """An agent with the remote, not started yet."""
    agent = Agent(tmp_path, DEXORDER_REPOSITORY_URL=f"file://{bare}", DEXORDER_WORKSPACE="trader-1")
    yield agent
    if agent.process is not None and agent.process.poll() is None:
        agent.kill()


def commit_elsewhere(tmp_path: Path, bare: Path, path: str, content: str) -> str:
    """What a person commits and pushes from another machine; the commit."""
    clone = tmp_path / "clone"
    if not clone.exists():
        git(tmp_path, "clone", "--quiet", str(bare), "clone")
    if git(bare, "branch"):
        git(clone, "pull", "--quiet")
    (clone / path).parent.mkdir(parents=True, exist_ok=True)
    (clone / path).write_text(content)
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", f"Write {path} elsewhere")
    git(clone, "push", "--quiet", "origin", "HEAD:main")
    return git(clone, "rev-parse", "HEAD").strip()


def in_step(agent: Agent) -> bool:
    status = agent.status()
    return bool(status["commit"]) and status["remote"] == {"pushed": status["commit"], "problem": None}


def save(agent: Agent) -> dict[str, Any]:
    code, body = agent.request("POST", "/lifecycle/save")
    assert code == 200
    return dict(json.loads(body))


async def test_an_empty_remote_gets_the_new_workspace_and_every_change(connected: Agent, bare: Path) -> None:
    connected.start()
    wait_until(lambda: in_step(connected))
    saved = await connected.call("write_file", path="notes/a.md", content="a\n")
    wait_until(lambda: in_step(connected))
    assert git(bare, "rev-parse", "main").strip() == saved["commit"]
    saved = await connected.call("write_file", path="notes/a.md", content="b\n")
    assert save(connected)["remote"] == {"pushed": saved["commit"], "problem": None}
    assert git(bare, "show", "main:notes/a.md") == "b\n"


async def test_an_empty_volume_is_filled_from_the_remote(connected: Agent, bare: Path, tmp_path: Path) -> None:
    commit = commit_elsewhere(tmp_path, bare, "indicators/theirs.py", "def compute(close): return close\n")
    connected.start()
    wait_until(lambda: connected.status()["commit"])
    assert connected.git("rev-parse", "HEAD").strip() == commit
    assert (await connected.call("run_indicator", name="theirs", series={"close": [1, 2]}))["outputs"] == {"theirs": [1.0, 2.0]}
    assert connected.git("status", "--porcelain") == ""


async def test_changes_of_both_sides_are_merged(connected: Agent, bare: Path, tmp_path: Path) -> None:
    connected.start()
    wait_until(lambda: in_step(connected))
    theirs = commit_elsewhere(tmp_path, bare, "notes/theirs.md", "theirs\n")
    ours = await connected.call("write_file", path="notes/ours.md", content="ours\n")
    wait_until(lambda: in_step(connected) and connected.status()["commit"] != ours["commit"])
    assert (await connected.call("read_file", path="notes/theirs.md"))["content"] == "theirs\n"
    assert set(git(bare, "rev-parse", "main^1", "main^2").split()) == {theirs, ours["commit"]}
    assert git(bare, "show", "main:notes/ours.md") == "ours\n"
    assert connected.git("status", "--porcelain") == ""
    connected.git("fsck", "--strict")
    # What only the other side changed is taken over as it is, at the next start too.
    assert connected.stop() == 0
    theirs = commit_elsewhere(tmp_path, bare, "notes/theirs.md", "later\n")
    connected.start()
    wait_until(lambda: connected.status()["commit"] == theirs)
    assert (await connected.call("read_file", path="notes/theirs.md"))["content"] == "later\n"


async def test_contradictions_are_kept_beside_each_other(connected: Agent, bare: Path, tmp_path: Path) -> None:
    connected.start()
    wait_until(lambda: in_step(connected))
    theirs = commit_elsewhere(tmp_path, bare, "context/user-profile.md", "theirs\n")
    await connected.call("set_user_profile", text="ours\n")
    wait_until(lambda: connected.status()["remote"]["problem"])
    assert "workspace/trader-1" in connected.status()["remote"]["problem"]
    again = await connected.call("set_user_profile", text="ours again\n")
    wait_until(lambda: connected.status()["remote"]["pushed"] == again["commit"])
    assert git(bare, "rev-parse", "main").strip() == theirs
    assert git(bare, "rev-parse", "workspace/trader-1").strip() == again["commit"]
    assert await connected.read("context://user-profile") == "ours again\n"
    # As soon as somebody has merged the two, the workspace follows.
    clone = tmp_path / "clone"
    git(clone, "fetch", "--quiet", "origin")
    git(clone, "merge", "--quiet", "-X", "theirs", "-m", "Join", "origin/workspace/trader-1")
    git(clone, "push", "--quiet", "origin", "HEAD:main")
    save(connected)
    assert in_step(connected)
    assert git(bare, "rev-parse", "main").strip() == connected.status()["commit"]


async def test_without_the_remote_there_is_no_new_workspace_but_an_old_one_works(connected: Agent, bare: Path) -> None:
    away = bare.with_name("away.git")
    bare.rename(away)
    connected.start()
    wait_until(lambda: not connected.repository.exists() and connected.status()["ready"])
    assert "can't be copied from its remote" in await connected.fails("read_file", path="README.md")
    away.rename(bare)
    wait_until(lambda: in_step(connected))
    bare.rename(away)
    saved = await connected.call("write_file", path="notes/a.md", content="a\n")
    answer = save(connected)
    assert answer["clean"] and answer["remote"]["problem"] and answer["remote"]["pushed"] != saved["commit"]
    away.rename(bare)
    assert connected.stop() == 0
    assert git(bare, "rev-parse", "main").strip() == saved["commit"]


async def test_an_agent_that_waits_for_the_remote_ends_in_an_orderly_way(connected: Agent, bare: Path) -> None:
    bare.rename(bare.with_name("away.git"))
    connected.start()
    assert "can't be copied" in await connected.fails("read_file", path="README.md")
    assert connected.stop() == 0
    assert not connected.repository.exists()


class Backend(BaseHTTPRequestHandler):
    """Git over HTTP for who knows the password."""

    root: Path

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self) -> None:
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(f"trader:{PASSWORD}".encode()).decode():
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
            "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": "trader",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": self.headers.get("Content-Length", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }  # fmt: skip
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        output = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=True).stdout
        head, _, content = output.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer


async def test_credentials_come_from_files_and_are_never_told(connected: Agent, bare: Path, tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Backend", (Backend,), {"root": tmp_path}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "username").write_text("trader\n")
    (credentials / "password").write_text("wrong-password\n")
    connected._environment["DEXORDER_REPOSITORY_URL"] = f"http://127.0.0.1:{server.server_port}/remote.git"
    connected._environment["DEXORDER_REPOSITORY_CREDENTIALS"] = str(credentials)
    connected.start()
    refused = await connected.fails("read_file", path="README.md")
    assert "can't be copied" in refused
    # A Secret that is put right is read again.
    (credentials / "password").write_text(f"{PASSWORD}\n")
    wait_until(lambda: in_step(connected))
    saved = await connected.call("write_file", path="notes/a.md", content="a\n")
    assert save(connected)["remote"]["pushed"] == saved["commit"]
    assert git(bare, "rev-parse", "main").strip() == saved["commit"]
    server.shutdown()
    server.server_close()
    problem = save(connected)["remote"]["problem"] or ""
    told = (connected.folder / "log").read_text() + (connected.repository / ".git/config").read_text() + refused + problem
    assert PASSWORD not in told and "wrong-password" not in told


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A server of OpenSSH that lets in who has the key; its port, and the folder of its key and the user's."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("there is no sshd: install openssh-server")
    folder = tmp_path / "ssh"
    folder.mkdir()
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    settings = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub", "PidFile": "none",
        "StrictModes": "no", "UsePAM": "no", "PasswordAuthentication": "no", "PermitRootLogin": "prohibit-password",
    }  # fmt: skip
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    server = subprocess.Popen([program, "-D", "-e", "-f", folder / "config"], stderr=(folder / "log").open("wb"))
    wait_until(lambda: b"listening" in (folder / "log").read_bytes())
    yield port, folder
    server.terminate()
    server.wait()


async def test_a_remote_over_ssh_opens_with_the_key(connected: Agent, bare: Path, tmp_path: Path, sshd: tuple[int, Path]) -> None:
    port, keys = sshd
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    connected._environment["DEXORDER_REPOSITORY_URL"] = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{bare}"
    connected._environment["DEXORDER_REPOSITORY_CREDENTIALS"] = str(credentials)
    connected.start()
    assert "can't be copied" in await connected.fails("read_file", path="README.md")
    key = credentials / "ssh-privatekey"
    key.touch(mode=0o600)
    key.write_text((keys / "user").read_text())
    wait_until(lambda: in_step(connected))
    saved = await connected.call("write_file", path="notes/a.md", content="a\n")
    assert save(connected)["remote"]["pushed"] == saved["commit"]
    assert git(bare, "rev-parse", "main").strip() == saved["commit"]
    # The host's key is kept beside the repository, and another one is refused from then on.
    seen = connected.folder / "known_hosts"
    _, kind, host_key = seen.read_text().split()[:3]
    assert (keys / "host.pub").read_text().startswith(f"{kind} {host_key}")
    other = (keys / "user.pub").read_text().split()[1]
    seen.write_text(seen.read_text().replace(host_key, other))
    assert save(connected)["remote"]["problem"]
    # Where the credentials name the right key, that alone counts.
    (credentials / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {host_key}\n")
    assert save(connected)["remote"]["problem"] is None
    (credentials / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {other}\n")
    assert save(connected)["remote"]["problem"]


async def test_no_credential_is_on_a_command_line_or_in_a_setting(connected: Agent, bare: Path, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "username").write_text("trader")
    (credentials / "password").write_text(PASSWORD)
    noted = tmp_path / "noted"
    wrapper = tmp_path / "bin/git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\n{{ echo "$@"; env; }} >> {noted}\nPATH=${{PATH#*:}} exec git "$@"\n')
    wrapper.chmod(0o755)
    connected._environment["PATH"] = f"{wrapper.parent}:{os.environ['PATH']}"
    connected._environment["DEXORDER_REPOSITORY_CREDENTIALS"] = str(credentials)
    connected.start()
    wait_until(lambda: in_step(connected))
    told = noted.read_text()
    assert "push" in told and str(credentials / "password") in told
    assert PASSWORD not in told and PASSWORD not in (connected.repository / ".git/config").read_text()
