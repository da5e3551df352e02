"""Mode Direct through the gateway: the published client gets in, and what the gateway saw gets nobody in."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003 - a field of a dataclass
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2
import pytest
import yaml

from dexorder_direct import DirectAuth, KeyNotPinned, LoginRefused, Token
from support import tokens
from support.identity import GATEWAY, Signer
from support.mcp_http import Mcp
from support.users import User  # noqa: TC001 - a field of a dataclass
from support.waiting import eventually
from support.workspace import Workspace  # noqa: TC001 - a field of a dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kubectl import Kubectl

START_SECONDS = 60
AUDIENCE = "https://direct.example.com"
ROTATE = "dexorder.io/rotate-direct-key"


@dataclass(frozen=True, slots=True)
class Fund:
    """A user with a workspace of mode Direct."""

    user: User
    workspace: Workspace

    @property
    def url(self) -> str:
        return f"{self.user.gateway_url}/workspaces/{self.workspace.name}"

    def auth(self, token: str | None = None, pin: str | None = None) -> DirectAuth:
        """A login as the documentation says: the key is pinned to what the resource's status shows."""
        credential = Token(token or tokens.of_user(self.user.id, AUDIENCE))
        return DirectAuth(self.url, self.user.id, credential, [pin or self.workspace.status["publicKey"]])

    @contextmanager
    def client(self, auth: DirectAuth) -> Iterator[tuple[Mcp, list[httpx2.Request]]]:
        """An MCP client that logs in by itself, and all that the gateway sees of it."""
        seen: list[httpx2.Request] = []
        hooks: dict[str, list[Callable[[httpx2.Request], None]]] = {"request": [seen.append]}
        with httpx2.Client(auth=auth, trust_env=False, timeout=90, event_hooks=hooks) as http:
            yield Mcp(http, f"{self.url}/mcp", {}), seen


def _fund(user: User, system: Kubectl) -> Fund:
    config = system.get("configmap", "dexorder-gateway")
    assert config is not None
    keys = yaml.safe_load(config["data"]["gateway.yaml"])["auth"]["issuers"][0]["jwks"]
    check = {"issuer": tokens.ISSUER, "audience": AUDIENCE, "jwks": keys}
    workspace = user.make_workspace(tier="enterprise", auth={"mode": "Direct", "direct": {"oidc": check}})
    workspace.wait("Ready", within=START_SECONDS)
    return Fund(user, workspace)


@pytest.fixture(scope="module")
def funds(new_module_user: Callable[[], User], system: Kubectl) -> tuple[Fund, Fund]:
    return _fund(new_module_user(), system), _fund(new_module_user(), system)


def reason(response: httpx2.Response) -> tuple[int, str]:
    told: str = response.json()["error"]["data"]["reason"]
    return response.status_code, told


def again(http: httpx2.Client, request: httpx2.Request, url: str | None = None) -> httpx2.Response:
    """Send what somebody sent before, as it was."""
    kept = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
    return http.request(request.method, url or str(request.url), content=request.content, headers=kept)


def test_the_published_client_gets_in(funds: tuple[Fund, Fund]) -> None:
    first, second = funds
    for fund in funds:
        with fund.client(fund.auth()) as (mcp, _):
            mcp.call("write_file", path="plan.txt", content=f"of {fund.user.id}")
    for fund in funds:
        with fund.client(fund.auth()) as (mcp, _):
            assert mcp.call("read_file", path="plan.txt")["content"] == f"of {fund.user.id}"
    assert first.workspace.status["publicKey"] != second.workspace.status["publicKey"]


def test_what_the_gateway_saw_gets_nobody_in(funds: tuple[Fund, Fund], http: httpx2.Client) -> None:
    first, second = funds
    with first.client(first.auth()) as (mcp, seen):
        mcp.tools()
    login = next(request for request in seen if str(request.url).endswith("/direct/session"))
    call = next(request for request in seen if str(request.url).endswith("/mcp"))
    secret = tokens.of_user(first.user.id, AUDIENCE)
    assert all(secret.split(".")[0] not in request.content.decode() for request in seen)
    # The envelope and the request are good once, and only where they were meant for.
    assert reason(again(http, login)) == (401, "Replayed")
    assert reason(again(http, call)) == (401, "Replayed")
    assert again(http, login, f"{second.url}/direct/session").status_code == 401
    assert again(http, call, f"{second.url}/mcp").status_code == 401
    # The token alone, and with the proof of another body, is worth nothing.
    token = {"Authorization": call.headers["authorization"]}
    assert reason(Mcp(http, f"{first.url}/mcp", token).send("tools/list")) == (401, "CredentialRefused")
    proof = {**token, "dexorder-proof": call.headers["dexorder-proof"]}
    other = Mcp(http, f"{first.url}/mcp", proof).send("tools/call", {"name": "delete_indicator", "arguments": {}})
    assert reason(other) == (401, "CredentialRefused")


def test_a_gateway_that_is_taken_over_is_no_user(
    funds: tuple[Fund, Fund], system: Kubectl, http: httpx2.Client
) -> None:
    """It signs identities for whomever it likes and sends them straight to the pod."""
    fund, _ = funds
    signer = Signer.of_cluster(system, GATEWAY)
    for subject in (fund.user.id, "gateway", "anonymous", "operator"):
        shown = signer.header(fund.workspace.uid, subject)
        response = Mcp(http, fund.workspace.status["endpoint"], shown).send("tools/list")
        assert response.status_code in (401, 403), subject


def test_only_the_users_own_credential_is_taken(funds: tuple[Fund, Fund]) -> None:
    fund, other = funds
    for token in (
        tokens.of_user(other.user.id, AUDIENCE),
        tokens.of_user(fund.user.id, fund.user.endpoint),
        tokens.of_user(fund.user.id, AUDIENCE, iat=0, exp=1),
        tokens.of_other_key(fund.user.id, AUDIENCE),
        "nonsense",
    ):
        with fund.client(fund.auth(token)) as (mcp, _), pytest.raises(LoginRefused) as refused:
            mcp.tools()
        assert refused.value.status in (401, 403)


def test_another_key_than_the_pinned_one_gets_no_credential(funds: tuple[Fund, Fund]) -> None:
    fund, other = funds
    pin: str = other.workspace.status["publicKey"]
    with fund.client(fund.auth(pin=pin)) as (mcp, seen), pytest.raises(KeyNotPinned):
        mcp.tools()
    assert [request.method for request in seen] == ["GET"]


def test_the_key_outlives_the_pod_and_a_client_goes_on(funds: tuple[Fund, Fund]) -> None:
    fund, _ = funds
    before = fund.workspace.status["publicKey"]
    with fund.client(fund.auth()) as (mcp, _):
        mcp.tools()
        pod = fund.workspace.delete_pod()
        assert mcp.tools()
        fund.workspace.wait_for_another_pod(pod)
        assert mcp.tools()
    fund.workspace.wait("Ready", within=START_SECONDS)
    assert fund.workspace.status["publicKey"] == before


KEY_FOLDER = "/var/lib/dexorder/direct"
PEEK = """
import os


def compute(close):
    keys = ("/var/lib/dexorder", "/var/lib/dexorder/direct/keys.json")
    for path in (*keys, "/workspace", "/run/dexorder", "/proc", "/"):
        try:
            print(path, os.listdir(path) if os.path.isdir(path) else open(path).read())
        except OSError as error:
            print(path, type(error).__name__)
    return close
"""


def test_neither_the_agent_nor_the_users_code_sees_the_sidecars_key(funds: tuple[Fund, Fund]) -> None:
    fund, _ = funds
    with fund.client(fund.auth()) as (mcp, _):
        mcp.call("save_indicator", name="peek", source=PEEK)
        told = mcp.call("run_indicator", name="peek", last=1)["printed"].splitlines()
    assert len(told) == 6
    for line in told:
        # What is not there, and what the code is not let near.
        assert line.split()[1] in {"FileNotFoundError", "PermissionError"}, line
    agent = fund.workspace.in_agent
    assert agent("ls", "/workspace").split() == ["repository"]
    assert agent("sh", "-c", f"ls {KEY_FOLDER} 2>&1 || true").endswith("No such file or directory\n")
    assert agent("sh", "-c", "find / -name keys.json -not -path '/proc/*' 2>/dev/null || true") == ""
    # The sidecar's processes, by whose folders of /proc its files could be reached, are not there either.
    processes = agent("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "dexorder_agent" in processes
    assert "dexorder-sidecar" not in processes


def test_the_key_is_rotated_on_request_and_a_client_with_both_pins_goes_on(funds: tuple[Fund, Fund]) -> None:
    fund, _ = funds
    before: str = fund.workspace.status["publicKey"]
    logged_in = fund.auth()

    def rotate(value: str) -> None:
        fund.workspace.kubectl.run("annotate", "--overwrite", f"uws/{fund.workspace.name}", f"{ROTATE}={value}")

    with fund.client(logged_in) as (mcp, _):
        mcp.tools()
        rotate("first")
        after: str = eventually("another key", lambda: _other_than(before, fund.workspace), within=START_SECONDS)
        assert mcp.tools()
    # The one before is shown beside it for ten minutes, and who was told the new one gets in with it.
    for pin in (before, after):
        with fund.client(fund.auth(pin=pin)) as (mcp, _):
            assert mcp.tools()
    # Each request counts once: neither the same one nor another pod makes another key.
    rotate("first")
    pod = fund.workspace.delete_pod()
    fund.workspace.wait_for_another_pod(pod)
    fund.workspace.wait("Ready", within=START_SECONDS)
    with fund.client(fund.auth(pin=after)) as (mcp, _):
        assert mcp.tools()
    assert fund.workspace.status["publicKey"] == after


def _other_than(before: str, workspace: Workspace) -> str | None:
    now: str = workspace.status["publicKey"]
    return now if now != before else None
