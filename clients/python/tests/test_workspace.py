"""The client against the real sidecar, by way of a gateway that sees everything and may be hostile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from support import PASSWORD, USER, Agent, Gateway, Sidecar, run, world

from dexorder_direct import DirectAuth, KeyDocument, KeyNotPinned, LoginRefused, Password, Token, headers, thumbprint
from dexorder_direct.encoding import encode

pytestmark = pytest.mark.skipif("DEXORDER_SIDECAR_BINARY" not in os.environ, reason="DEXORDER_SIDECAR_BINARY is not set: see run-tests")

World = tuple[Gateway, Sidecar, Agent]
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
DISCOVER = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": META}}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("sidecar")) as made:
        yield made


def pin_of(gateway: Gateway) -> str:
    answer = httpx2.get(f"{gateway.url}/direct/key", timeout=60)
    return thumbprint(KeyDocument.read(answer.json()).keys[0])


def auth_for(gateway: Gateway, credential: Any = None) -> DirectAuth:
    return DirectAuth(gateway.url, USER, credential or Password(PASSWORD), [pin_of(gateway)])


def discover(client: httpx2.Client, auth: DirectAuth) -> httpx2.Response:
    return client.post(auth.mcp_url, json=DISCOVER, headers=headers.of(DISCOVER, None, None))


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_official_client_calls_a_tool_and_the_gateway_learns_nothing(here: World, mode: Any) -> None:
    gateway, _, agent = here
    auth = auth_for(gateway)

    async def call() -> Any:
        async with (
            httpx2.AsyncClient(auth=auth, timeout=60) as http,
            Client(streamable_http_client(auth.mcp_url, http_client=http), mode=mode) as client,
        ):
            return (await client.call_tool("add", {"a": 2, "b": 3})).structured_content

    assert run(call()) == {"result": 5}
    assert agent.users[-1] == USER
    assert all(PASSWORD.encode() not in body for _, _, body in gateway.seen)


def test_one_login_serves_many_requests(here: World) -> None:
    gateway, _, _ = here
    auth = auth_for(gateway)
    gateway.seen.clear()
    with httpx2.Client(auth=auth, timeout=60) as client:
        for _ in range(3):
            assert discover(client, auth).status_code == 200
    assert gateway.paths() == ["GET /direct/key", "POST /direct/session"] + ["POST /mcp"] * 3


def test_a_gateway_that_shows_its_own_key_gets_nothing_sealed_to_it(here: World) -> None:
    gateway, _, _ = here
    auth = auth_for(gateway)
    trap = X25519PrivateKey.generate().public_key().public_bytes_raw()
    pin = pin_of(gateway)
    gateway.seen.clear()
    gateway.shown_key = {"kty": "OKP", "crv": "X25519", "x": encode(trap), "kid": pin}
    try:
        with httpx2.Client(auth=auth, timeout=60) as client, pytest.raises(KeyNotPinned):
            discover(client, auth)
    finally:
        gateway.shown_key = None
    assert gateway.paths() == ["GET /direct/key"]


@pytest.mark.parametrize("credential", [Password("wrong"), Password(PASSWORD, "phone"), Token("no.such.token")])
def test_a_credential_that_does_not_hold_is_told(here: World, credential: Any) -> None:
    gateway, _, _ = here
    auth = auth_for(gateway, credential)
    with httpx2.Client(auth=auth, timeout=60) as client, pytest.raises(LoginRefused, match="CredentialRefused"):
        discover(client, auth)


def test_nothing_else_gets_the_token(here: World) -> None:
    gateway, _, _ = here
    auth = auth_for(gateway)
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200)

    with httpx2.Client(auth=auth, transport=httpx2.MockTransport(answer)) as client:
        client.post("https://elsewhere.example/mcp", json=DISCOVER)
        client.get(f"{gateway.url}/other")
    assert len(asked) == 2
    assert all("authorization" not in request.headers and "dexorder-proof" not in request.headers for request in asked)


def test_a_workspace_that_was_started_again_costs_no_login_and_no_error(tmp_path: Path) -> None:
    with world(tmp_path) as (gateway, sidecar, _):
        auth = auth_for(gateway)
        with httpx2.Client(auth=auth, timeout=60) as client:
            assert discover(client, auth).status_code == 200
            sidecar.stop()
            sidecar.start()
            gateway.seen.clear()
            assert discover(client, auth).status_code == 200
            assert gateway.paths() == ["POST /mcp", "POST /mcp"], "the proof was made anew for this run"


def command(gateway: Gateway, folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "dexorder_direct", *arguments, gateway.url, "--pins-file", str(folder / "pins.json")]


def test_the_command_pins_a_key_that_is_shown_and_no_other(here: World, tmp_path: Path) -> None:
    gateway, _, _ = here
    pin = pin_of(gateway)
    shown = subprocess.run(command(gateway, tmp_path, "key"), capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == pin
    other = subprocess.run([*command(gateway, tmp_path, "key"), "--pin", "another"], capture_output=True, text=True, check=False)
    assert (other.returncode, (tmp_path / "pins.json").exists()) == (1, False)
    proxy = subprocess.run([*command(gateway, tmp_path, "proxy"), "--user", USER], capture_output=True, text=True, check=False, input="")
    assert proxy.returncode == 1
    assert "pinned" in proxy.stderr
    subprocess.run([*command(gateway, tmp_path, "key"), "--pin", pin], capture_output=True, check=True)
    assert pin in (tmp_path / "pins.json").read_text()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_on_standard_input_and_output_needs_no_credential(here: World, tmp_path: Path, mode: Any) -> None:
    gateway, _, _ = here
    (tmp_path / "password").write_text(PASSWORD + "\n")
    program, *arguments = command(gateway, tmp_path, "proxy")
    arguments += ["--user", USER, "--pin", pin_of(gateway), "--password-file", str(tmp_path / "password")]

    async def call() -> Any:
        async with Client(stdio_client(StdioServerParameters(command=program, args=arguments)), mode=mode) as client:
            return (await client.call_tool("add", {"a": 4, "b": 5})).structured_content

    assert run(call()) == {"result": 9}


def test_what_is_piped_in_is_answered_and_the_end_of_input_ends_it(here: World, tmp_path: Path) -> None:
    gateway, _, _ = here
    listen = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "subscriptions/listen",
        "params": {"notifications": {"toolsListChanged": True}, "_meta": META},
    }
    lines = "\n".join(["no JSON", json.dumps(listen), json.dumps(DISCOVER)]) + "\n"
    arguments = [*command(gateway, tmp_path, "proxy"), "--user", USER, "--pin", pin_of(gateway)]
    environment = {**os.environ, "DEXORDER_DIRECT_PASSWORD": PASSWORD}
    done = subprocess.run(arguments, env=environment, input=lines, capture_output=True, text=True, check=True, timeout=240)
    answers = {answer.get("id"): answer for answer in map(json.loads, done.stdout.splitlines())}
    assert answers[None]["error"]["code"] == -32700
    assert "result" in answers[1]


def test_a_credential_that_can_not_be_had_is_told_to_the_client(here: World, tmp_path: Path) -> None:
    gateway, _, _ = here
    arguments = [*command(gateway, tmp_path, "proxy"), "--user", USER, "--pin", pin_of(gateway), "--token-command", "exit 3"]
    done = subprocess.run(arguments, input=json.dumps(DISCOVER) + "\n", capture_output=True, text=True, check=True, timeout=240)
    answer = json.loads(done.stdout)
    assert (answer["id"], "ended with 3" in answer["error"]["message"]) == (1, True)


def test_a_client_on_a_loopback_address_needs_no_credential(here: World, tmp_path: Path) -> None:
    gateway, _, _ = here
    arguments = [*command(gateway, tmp_path, "proxy"), "--user", USER, "--pin", pin_of(gateway), "--listen", "127.0.0.1:0"]
    environment = {**os.environ, "DEXORDER_DIRECT_PASSWORD": PASSWORD}
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stderr is not None
            url = proxy.stderr.readline().removeprefix("MCP at ").strip()

            async def call() -> Any:
                async with Client(url) as client:
                    return (await client.call_tool("add", {"a": 6, "b": 7})).structured_content

            assert run(call()) == {"result": 13}
        finally:
            proxy.terminate()
