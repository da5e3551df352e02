"""The command `dexorder-direct`."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx2
import uvicorn

from dexorder_direct import pins, stdio
from dexorder_direct.auth import DirectAuth
from dexorder_direct.credentials import Credential, Password, Token
from dexorder_direct.errors import DirectError
from dexorder_direct.hashing import hash_password
from dexorder_direct.keys import thumbprint
from dexorder_direct.loopback import LoopbackProxy, is_loopback
from dexorder_direct.sealing import KeyDocument

START = httpx2.Timeout(30, read=180)
"""A workspace that is stopped is started by the first request."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and say with which code to end."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (DirectError, httpx2.HTTPError, OSError, ValueError) as error:
        print(f"dexorder-direct: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dexorder-direct", description="MCP with a workspace of auth mode Direct.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    proxy = commands.add_parser("proxy", help="speak MCP on standard input and output, or on a loopback address, without a credential")
    proxy.add_argument("url", help="the workspace's URL at the gateway: https://workspaces.example.com/workspaces/NAME")
    proxy.add_argument("--user", required=True, help="the user ID of the workspace")
    proxy.add_argument("--pin", action="append", help="thumbprint of the workspace's key; else one that `key --pin` keeps")
    how = proxy.add_mutually_exclusive_group()
    how.add_argument("--password-file", type=Path, help="a file with the password; else DEXORDER_DIRECT_PASSWORD")
    how.add_argument("--token-file", type=Path, help="a file with a token of the OpenID provider; else DEXORDER_DIRECT_TOKEN")
    how.add_argument("--token-command", help="a shell command that prints a token of the OpenID provider")
    proxy.add_argument("--key-id", help="entry of the workspace's Secret that the password is checked against; else the user ID")
    proxy.add_argument("--listen", metavar="ADDRESS:PORT", help="a loopback address; else standard input and output")
    proxy.set_defaults(run=_proxy)

    key = commands.add_parser("key", help="show the thumbprint of a workspace's key, to be compared with its status.publicKey")
    key.add_argument("url")
    key.add_argument("--pin", metavar="THUMBPRINT", help="keep this thumbprint, which must be the one that is shown")
    key.set_defaults(run=_key)

    hashed = commands.add_parser("hash", help="print the argon2id hash of a password, for the workspace's Secret")
    hashed.set_defaults(run=_hash)
    for command in (proxy, key):
        command.add_argument("--pins-file", type=Path, default=pins.default_file(), help="where pins are kept")
        command.add_argument("--ca-file", type=Path, help="PEM of certificates to trust in place of the public ones")
    return parser


def _proxy(options: argparse.Namespace) -> None:
    known = options.pin or pins.read(options.pins_file, options.url)
    if not known:
        raise DirectError(f"no key of {options.url} is pinned: see `dexorder-direct key {options.url}`")
    auth = DirectAuth(options.url, options.user, _credential(options), known)
    if options.listen is None:
        asyncio.run(_serve_stdio(auth, options))
    else:
        asyncio.run(_serve_loopback(auth, options))


def _client(options: argparse.Namespace, auth: DirectAuth) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(auth=auth, timeout=START, verify=_verify(options))


def _verify(options: argparse.Namespace) -> bool | str:
    return True if options.ca_file is None else str(options.ca_file)


async def _serve_stdio(auth: DirectAuth, options: argparse.Namespace) -> None:
    async with _client(options, auth) as client:
        await stdio.StdioProxy(client, auth.mcp_url, stdio.standard_output).run(stdio.standard_input())


async def _serve_loopback(auth: DirectAuth, options: argparse.Namespace) -> None:
    host, _, port = options.listen.rpartition(":")
    if not is_loopback(host.strip("[]")) or not port.isdecimal():
        raise DirectError(f"{options.listen} is no loopback address with a port, such as 127.0.0.1:8765")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host.strip("[]"), int(port)), family=family) as listener:
        async with _client(options, auth) as client:
            proxy = LoopbackProxy(client, auth.mcp_url, os.environ.get("DEXORDER_DIRECT_LOCAL_TOKEN") or None)
            server = uvicorn.Server(uvicorn.Config(proxy, log_level="warning", lifespan="off"))
            print(f"MCP at http://{host}:{listener.getsockname()[1]}/mcp", file=sys.stderr, flush=True)
            await server.serve(sockets=[listener])


def _credential(options: argparse.Namespace) -> Credential:
    if options.token_command is not None:
        command = options.token_command

        def fetch() -> str:
            done = subprocess.run(command, shell=True, check=False, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
            if done.returncode != 0 or not done.stdout.strip():
                raise DirectError(f"the token command ended with {done.returncode} and printed {len(done.stdout)} characters")
            return done.stdout.strip()

        return Token(fetch)
    if options.token_file is not None:
        file = options.token_file
        return Token(lambda: _text(file).strip())
    if options.password_file is not None:
        return Password(_text(options.password_file).rstrip("\r\n"), options.key_id)
    if password := os.environ.get("DEXORDER_DIRECT_PASSWORD"):
        return Password(password, options.key_id)
    if token := os.environ.get("DEXORDER_DIRECT_TOKEN"):
        return Token(token)
    raise DirectError("no credential: give --password-file, --token-file, --token-command, or set DEXORDER_DIRECT_PASSWORD or _TOKEN")


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError as error:
        raise DirectError(f"the credential can't be read: {error}") from error


def _key(options: argparse.Namespace) -> int:
    url = options.url.rstrip("/").removesuffix("/mcp")
    response = httpx2.get(f"{url}/direct/key", timeout=START, verify=_verify(options))
    if response.status_code != 200:
        raise DirectError(f"{url}/direct/key answered {response.status_code}: is it a workspace of auth mode Direct?")
    document = KeyDocument.read(response.json())
    shown = [thumbprint(key) for key in document.keys]
    print("\n".join(shown))
    if options.pin is None:
        print("Compare it with `kubectl get uws NAME -o jsonpath={.status.publicKey}`, then keep it with --pin.", file=sys.stderr)
        return 0
    if options.pin not in shown:
        raise DirectError(f"{options.pin} is not shown there: something on the way may show a key of its own. Nothing was kept")
    pins.add(options.pins_file, url, options.pin)
    return 0


def _hash(_: argparse.Namespace) -> None:
    password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    print(hash_password(password))


if __name__ == "__main__":
    sys.exit(main())
