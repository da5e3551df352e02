"""Public workspaces and anonymous visitors: who gets what without a login, and what a flood of them costs."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from support.kubectl import KubectlError
from support.mcp_http import Mcp, RefusedError, headers, payload
from support.other_gateway import OtherGateway
from support.visitors import SESSION, VISITOR, Visitor, an_address, anonymous_workspaces, workspaces_since
from support.waiting import eventually
from support.workspace import Workspace, manifest, parse_time, tier_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.kubectl import Kubectl
    from support.users import User

START_SECONDS = 60


@pytest.fixture(scope="module", autouse=True)
def _no_visitor_stays(kubectl: Kubectl) -> Iterator[None]:
    """Remove the workspaces of visitors that the tests of this file leave, with their claims."""
    before = anonymous_workspaces(kubectl)
    yield
    for workspace in workspaces_since(kubectl, before):
        names = (f"userworkspace/{workspace.name}", f"pvc/{workspace.child}")
        kubectl.run("delete", "--ignore-not-found", "--wait=false", *names)


@pytest.fixture(scope="module")
def showcase(new_module_user: Callable[[], User]) -> Workspace:
    """A public workspace that many share, applied by hand."""
    workspace = new_module_user().make_workspace(tier="free", auth={"mode": "Public"})
    workspace.wait("Ready", within=START_SECONDS)
    return workspace


@pytest.fixture
def visit(http: httpx2.Client, gateway_url: str) -> Callable[[], Visitor]:
    """Make visitors, each from an address of the own."""
    return lambda: Visitor.come(http, gateway_url, an_address())


@pytest.fixture(scope="module")
def settled(http: httpx2.Client, gateway_url: str, kubectl: Kubectl) -> tuple[Visitor, Workspace]:
    """A visitor whose workspace runs."""
    before = anonymous_workspaces(kubectl)
    visitor = Visitor.come(http, gateway_url, an_address())
    visitor.mcp.tools()
    (workspace,) = workspaces_since(kubectl, before)
    return visitor, workspace


def shared(http: httpx2.Client, gateway_url: str, workspace: Workspace, **credentials: str) -> Mcp:
    return Mcp(http, f"{gateway_url}/workspaces/{workspace.name}/mcp", credentials)


def reason(response: httpx2.Response) -> str:
    told: str = response.json()["error"]["data"]["reason"]
    return told


def test_anybody_reads_a_public_workspace(showcase: Workspace, http: httpx2.Client, gateway_url: str) -> None:
    anybody = shared(http, gateway_url, showcase)
    tools = anybody.request("tools/list")["tools"]
    assert all(tool["annotations"]["readOnlyHint"] for tool in tools)
    assert "run_indicator" in {tool["name"] for tool in tools}
    assert 0 < anybody.call("run_indicator", name="rsi", last=1)["outputs"]["rsi"][0] < 100
    assert anybody.request("resources/list")["resources"]
    assert "rsi" in anybody.read("indicators://list")


def test_nobody_writes_to_a_public_workspace(
    showcase: Workspace, http: httpx2.Client, gateway_url: str, settled_user: User
) -> None:
    known = shared(http, gateway_url, showcase).read("context://user-profile")
    writes: dict[str, dict[str, Any]] = {
        "set_user_profile": {"text": "x"},
        "write_file": {"path": "x", "content": "x"},
        "delete_indicator": {"name": "rsi"},
        "append_conversation": {"conversation": "x", "messages": []},
        "no_such_tool": {},
    }
    # A user's token makes nobody more than anonymous there.
    shown: list[dict[str, str]] = [{}, {"Authorization": f"Bearer {settled_user.token}"}]
    for credentials in shown:
        client = shared(http, gateway_url, showcase, **credentials)
        for tool, arguments in writes.items():
            with pytest.raises(RefusedError) as refused:
                client.call(tool, **arguments)
            assert refused.value.status == 403, tool
    assert shared(http, gateway_url, showcase).read("context://user-profile") == known
    with pytest.raises(KubectlError, match="Read-only file system"):
        showcase.in_agent("touch", "/workspace/written")


def test_an_anonymous_session_is_given_and_only_ones_own_is_taken(
    showcase: Workspace, http: httpx2.Client, gateway_url: str
) -> None:
    first = shared(http, gateway_url, showcase).send("tools/list")
    session = first.headers[SESSION]
    assert shared(http, gateway_url, showcase, **{SESSION: session}).send("tools/list").status_code == 200
    for forged in ("x", session[:-2], secrets.token_urlsafe(64)):
        response = shared(http, gateway_url, showcase, **{SESSION: forged}).send("tools/list")
        assert (response.status_code, reason(response)) == (401, "CredentialRefused"), forged


def test_a_stopped_public_workspace_is_started_by_anybody(
    showcase: Workspace, http: httpx2.Client, gateway_url: str
) -> None:
    showcase.change(operatingMode="Suspended")
    showcase.wait_reason("Ready", "Suspended", within=START_SECONDS)
    showcase.change(operatingMode="Auto")
    anybody = shared(http, gateway_url, showcase)
    # The gateway's watch may be a moment behind the change.
    eventually("it is started", lambda: anybody.send("tools/list").is_success, within=START_SECONDS)


def test_its_owners_token_is_shown_the_way(new_user: Callable[[], User], http: httpx2.Client) -> None:
    owner = new_user()
    workspace = owner.make_workspace(tier="free", auth={"mode": "Public"}, operatingMode="Suspended")
    response = owner.mcp.send("tools/list")
    assert (response.status_code, reason(response)) == (403, "AuthModeNotOffered")
    assert f"/workspaces/{workspace.name}/mcp" in response.text
    chat = http.get(f"{owner.gateway_url}/v1/conversations", headers=dict(owner.mcp.credentials))
    assert chat.status_code == 403


def test_the_first_request_makes_a_visitor(http: httpx2.Client, gateway_url: str, kubectl: Kubectl) -> None:
    before = anonymous_workspaces(kubectl)
    message = json.dumps(payload("server/discover"))
    sent = {**headers("server/discover"), "X-Forwarded-For": an_address(), "Content-Type": "application/json"}
    with httpx2.Client(trust_env=False, timeout=90) as browser:
        response = browser.post(f"{gateway_url}/public/mcp", content=message, headers=sent)
        assert response.status_code == 200, response.text
        cookie = response.headers["set-cookie"]
        assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/public"))
        # The browser sends the cookie by itself.
        again = browser.post(f"{gateway_url}/public/mcp", content=message, headers=sent)
        assert again.status_code == 200
        assert VISITOR not in again.headers
    credential = response.headers[VISITOR]
    assert Visitor(http, gateway_url, an_address(), credential).mcp.tools()
    (workspace,) = workspaces_since(kubectl, before)
    spec = workspace.resource["spec"]
    assert (spec["tier"], spec["auth"]["mode"]) == ("free", "Public")
    created = parse_time(workspace.resource["metadata"]["creationTimestamp"])
    assert abs(parse_time(workspace.status["expireTime"]) - created - timedelta(hours=1)) < timedelta(minutes=1)


def test_a_visitor_comes_back_and_to_nobody_elses(
    settled: tuple[Visitor, Workspace], visit: Callable[[], Visitor], kubectl: Kubectl, gateway_url: str
) -> None:
    visitor, workspace = settled
    before = anonymous_workspaces(kubectl)
    for credentials in (
        {VISITOR: visitor.credential},
        {"Cookie": f"{VISITOR}={visitor.credential}"},
        {"Authorization": f"Bearer {visitor.credential}"},
    ):
        assert visitor.showing(credentials).tools()
    assert workspaces_since(kubectl, before) == []
    other = visit()
    middle = len(visitor.credential) // 2
    for forged in (
        visitor.credential[:-1],
        visitor.credential[:middle] + other.credential[middle:],
        base64.urlsafe_b64encode(secrets.token_bytes(53)).decode().rstrip("="),
        workspace.user,
    ):
        response = visitor.showing({VISITOR: forged}).send("tools/list")
        assert (response.status_code, reason(response)) == (401, "Unauthenticated"), forged
    by_name = Mcp(visitor.http, f"{gateway_url}/workspaces/{workspace.name}/mcp", {VISITOR: visitor.credential})
    assert by_name.send("tools/list").status_code == 404
    as_user = Mcp(visitor.http, f"{gateway_url}/mcp", {"Authorization": f"Bearer {visitor.credential}"})
    assert as_user.send("tools/list").status_code == 401
    assert workspaces_since(kubectl, before) == []


def test_a_visitor_writes_nothing(settled: tuple[Visitor, Workspace]) -> None:
    visitor, _ = settled
    with pytest.raises(RefusedError) as refused:
        visitor.mcp.call("set_user_profile", text="x")
    assert refused.value.status == 403


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_the_python_sdk_is_one_visitor(mode: str, gateway_url: str, kubectl: Kubectl) -> None:
    """The official client knows nothing of visitors: its session, or its cookies, bring it back."""
    before = anonymous_workspaces(kubectl)

    async def main() -> None:
        async with (
            httpx2.AsyncClient(headers={"X-Forwarded-For": an_address()}, timeout=90, trust_env=False) as http,
            Client(streamable_http_client(f"{gateway_url}/public/mcp", http_client=http), mode=mode) as client,
        ):
            tools = {tool.name for tool in (await client.list_tools()).tools}
            assert "run_indicator" in tools
            result = await client.call_tool("run_indicator", {"name": "rsi", "last": 1})
            assert not result.is_error

    asyncio.run(main())
    assert len(workspaces_since(kubectl, before)) == 1


def test_a_visitor_chats_with_the_workspace_and_is_remembered(
    settled: tuple[Visitor, Workspace], visit: Callable[[], Visitor], gateway_url: str
) -> None:
    visitor, _ = settled
    with openai.OpenAI(base_url=f"{gateway_url}/public/v1", api_key=visitor.credential, max_retries=0) as client:
        completion: Any = client.chat.completions.create(
            model="default",
            messages=[{"role": "user", "content": "/run_indicator name=rsi last=1"}],
            metadata={"conversation_id": "mine"},
        )
    assert "rsi" in completion.choices[0].message.content
    assert completion.model_dump()["dexorder"]["saved"] is True

    def kept(credential: str) -> httpx2.Response:
        url = f"{gateway_url}/public/v1/conversations/mine"
        return visitor.http.get(url, headers={VISITOR: credential, "X-Forwarded-For": visitor.address})

    assert kept(visitor.credential).json()["total"] >= 2
    assert kept(visit().credential).status_code == 404


def test_a_visitors_workspace_ends_with_its_time_and_leaves_nothing(
    kubectl: Kubectl, new_user: Callable[[], User]
) -> None:
    """Of a tier whose time is the shortest that there is; the gateway's visitors have the installed tier's hour."""
    standard = kubectl.get("workspacetier", "standard")
    assert standard is not None
    tier = f"visit-{secrets.token_hex(3)}"
    storage = {"size": "1Gi", "retentionPolicy": "Retain"}
    terms = {"access": "ReadOnly", "authModes": ["Public", "Gateway"], "maxLifetime": "1m", "storage": storage}
    kubectl.apply(tier_manifest(tier, image=standard["spec"]["image"], **terms))
    try:
        visitor = Workspace(kubectl, f"visit-{secrets.token_hex(4)}", f"anonymous:{secrets.token_hex(16)}")
        made = manifest(visitor.name, visitor.user, tier=tier, auth={"mode": "Public"})
        made["metadata"]["labels"] = {"dexorder.io/anonymous": "true"}
        kubectl.apply(made)
        # Somebody with a login keeps the workspace, however short the tier's time for visitors is.
        known = new_user().make_workspace(tier=tier)
        visitor.wait("Ready", within=START_SECONDS)
        claim = visitor.claim
        assert claim is not None
        end = parse_time(visitor.status["expireTime"])
        eventually("the workspace is gone", lambda: kubectl.get("uws", visitor.name) is None, within=90)
        assert datetime.now(UTC) >= end
        eventually("its pod and its claim are gone", lambda: (visitor.pod, visitor.claim) == (None, None), within=60)
        volume = claim["spec"]["volumeName"]
        eventually("its volume is gone", lambda: kubectl.get("pv", volume) is None, within=60)
        assert known.status.get("expireTime") is None
        known.wait("Ready")
    finally:
        kubectl.run("delete", "workspacetier", tier, "--ignore-not-found", "--wait=false")


def test_new_visitors_of_one_address_are_limited(http: httpx2.Client, gateway_url: str, kubectl: Kubectl) -> None:
    before = anonymous_workspaces(kubectl)
    address = an_address()

    def come(origin: str) -> httpx2.Response:
        return http.post(f"{gateway_url}/public/visitors", headers={"X-Forwarded-For": origin})

    answers = [come(address) for _ in range(60)]
    limited = [response for response in answers if response.status_code == 429]
    assert limited, "nobody was limited"
    assert all(response.status_code in (201, 429) for response in answers)
    for response in limited:
        assert reason(response) == "TooManyRequests"
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["jsonrpc"] == "2.0"
    # The same customer's other addresses do not help, nor does what is written in front; another one is let in.
    prefix = ":".join(address.split(":")[:4])
    statuses = [come(origin).status_code for origin in (f"{prefix}::2", f"203.0.113.1, {prefix}::3")]
    assert statuses == [429, 429]
    assert come(an_address()).status_code == 201
    assert workspaces_since(kubectl, before) == []


def test_a_flood_of_visitors_makes_no_more_workspaces_than_there_is_room_for(system: Kubectl, kubectl: Kubectl) -> None:
    """A gateway that lets in one more than are there is flooded from many addresses at once."""
    before = anonymous_workspaces(kubectl)

    def change(config: dict[str, Any]) -> None:
        config["visitors"]["most"] = len(before) + 1

    gateway = OtherGateway(system, "e2e-flooded-gateway")
    gateway.stop()
    try:
        url = gateway.start(change, {})

        def first_request(_: int) -> httpx2.Response:
            with httpx2.Client(trust_env=False, timeout=90) as http:
                return Mcp(http, f"{url}/public/mcp", {"X-Forwarded-For": an_address()}).send("tools/list")

        with ThreadPoolExecutor(30) as pool:
            answers = list(pool.map(first_request, range(30)))
    finally:
        gateway.stop()
    served = [response for response in answers if response.status_code == 200]
    refused = [response for response in answers if response.status_code == 503]
    assert (len(served), len(refused)) == (1, 29), [response.status_code for response in answers]
    assert {reason(response) for response in refused} == {"TooManyRequests"}
    assert all("retry-after" in response.headers for response in refused)
    assert len(workspaces_since(kubectl, before)) == 1
