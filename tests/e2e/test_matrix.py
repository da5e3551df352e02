"""Every principal against every mode and endpoint: nothing that should be denied passes, and nothing else is denied."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx2
import pytest
import yaml

from dexorder_direct import DirectAuth, Token
from support import tokens
from support.identity import GATEWAY, HEADER, OPERATOR, Signer
from support.mcp_http import ACCEPT, Mcp, headers, payload
from support.visitors import SESSION, VISITOR, Visitor, an_address, anonymous_workspaces, workspaces_since

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.kubectl import Kubectl
    from support.users import User
    from support.workspace import Workspace

START_SECONDS = 60
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "matrix", "version": "1"},
    },
}
OLD = {"Content-Type": "application/json", "Accept": ACCEPT, "MCP-Protocol-Version": "2025-11-25"}


@dataclass(frozen=True, slots=True)
class World:
    """A workspace of each mode, and everything that somebody could show for it."""

    http: httpx2.Client
    gateway_url: str
    owner: User
    other: User
    gateway: Workspace
    public: Workspace
    direct: Workspace
    visitor: Visitor
    visited: Workspace
    principals: dict[str, dict[str, str]]
    envelopes: dict[str, bytes]
    """Sealed credentials that were used: of the direct workspace's user, and of another direct workspace's."""

    def url(self, endpoint: str) -> str:
        names = {"GATEWAY": self.gateway, "PUBLIC": self.public, "DIRECT": self.direct, "VISITED": self.visited}
        if endpoint.startswith("pod of "):
            address: str = names[endpoint.removeprefix("pod of ")].status["endpoint"]
            return address
        for name, workspace in names.items():
            endpoint = endpoint.replace(name, workspace.name)
        return self.gateway_url + endpoint


def _session(http: httpx2.Client, url: str, credentials: dict[str, str]) -> str:
    response = http.post(url, content=json.dumps(INITIALIZE), headers={**OLD, **credentials})
    assert response.status_code == 200, response.text
    session: str = response.headers["mcp-session-id"]
    return session


def _logged_in(fund: User, workspace: Workspace, audience: str) -> tuple[dict[str, str], bytes]:
    """What the gateway saw of a user of mode Direct: the headers of a call, and the sealed credential."""
    url = f"{fund.gateway_url}/workspaces/{workspace.name}"
    token = Token(tokens.of_user(fund.id, audience))
    seen: list[httpx2.Request] = []
    auth = DirectAuth(url, fund.id, token, [workspace.status["publicKey"]])
    with httpx2.Client(auth=auth, trust_env=False, timeout=90, event_hooks={"request": [seen.append]}) as client:
        Mcp(client, f"{url}/mcp", {}).tools()
    call = next(request for request in seen if request.url.path.endswith("/mcp"))
    envelope = next(request for request in seen if request.url.path.endswith("/direct/session"))
    shown = {name: call.headers[name] for name in ("authorization", "dexorder-proof")}
    return shown, envelope.content


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def world(
    new_module_user: Callable[[], User], kubectl: Kubectl, system: Kubectl, http: httpx2.Client, gateway_url: str
) -> Iterator[World]:
    before = anonymous_workspaces(kubectl)
    owner, other, shared, fund, second_fund = (new_module_user() for _ in range(5))
    config = system.get("configmap", "dexorder-gateway")
    assert config is not None
    keys = yaml.safe_load(config["data"]["gateway.yaml"])["auth"]["issuers"][0]["jwks"]
    check = {"issuer": tokens.ISSUER, "audience": owner.endpoint, "jwks": keys}
    public = shared.make_workspace(tier="free", auth={"mode": "Public"})
    direct, second_direct = (
        somebody.make_workspace(tier="enterprise", auth={"mode": "Direct", "direct": {"oidc": check}})
        for somebody in (fund, second_fund)
    )
    owner.mcp.tools()
    other.mcp.tools()
    visitor = Visitor.come(http, gateway_url, an_address())
    visitor.mcp.tools()
    (visited,) = workspaces_since(kubectl, before)
    for workspace in (public, direct, second_direct):
        workspace.wait("Ready", within=START_SECONDS)
    now = int(time.time())
    signer, stranger = Signer.of_cluster(system, GATEWAY), Signer.made_up(GATEWAY)
    operator = Signer.of_cluster(system, OPERATOR)
    uid = owner.workspace.uid
    visiting = {"X-Forwarded-For": visitor.address}
    stolen = _session(http, owner.endpoint, dict(owner.mcp.credentials))
    of_visitor = _session(http, visitor.endpoint, {**visiting, VISITOR: visitor.credential})
    old = {"MCP-Protocol-Version": "2025-11-25"}
    used, envelope = _logged_in(fund, direct, owner.endpoint)
    of_elsewhere, envelope_of_elsewhere = _logged_in(second_fund, second_direct, owner.endpoint)
    principals = {
        "nobody": {},
        "owner": _bearer(owner.token),
        "another user": _bearer(other.token),
        "user of the direct workspace": _bearer(tokens.of_user(fund.id, owner.endpoint)),
        "expired": _bearer(tokens.of_user(owner.id, owner.endpoint, iat=now - 7200, exp=now - 3600)),
        "other audience": _bearer(tokens.of_user(owner.id, "https://elsewhere.example.com/mcp")),
        "other key": _bearer(tokens.of_other_key(owner.id, owner.endpoint)),
        "unsigned": _bearer(tokens.unsigned(owner.id, owner.endpoint)),
        "reserved name": _bearer(tokens.of_user(visited.user, owner.endpoint)),
        "name of the gateway": _bearer(tokens.of_user("gateway", owner.endpoint)),
        "made-up API key": _bearer(f"dxk_{'0' * 16}_{'A' * 43}"),
        "visitor": {VISITOR: visitor.credential},
        "visitor as a token": _bearer(visitor.credential),
        "forged visitor": {VISITOR: f"{visitor.credential[:-2]}AA"},
        "identity that was read on the way": signer.header(uid, owner.id),
        "identity of another install": stranger.header(uid, owner.id),
        "identity of the operator": operator.header(uid, "operator"),
        "bare header": {"dexorder-user": owner.id},
        "another user with the owner's session": {**_bearer(other.token), **old, "Mcp-Session-Id": stolen},
        "nobody with the owner's session": {**old, "Mcp-Session-Id": stolen},
        "nobody with a visitor's session": {**old, "Mcp-Session-Id": of_visitor},
        "made-up anonymous session": {SESSION: "A" * 64},
        "made-up proof": {**_bearer(owner.token), "dexorder-proof": "a.b.c"},
        "replayed request of the direct workspace": used,
        "token of the direct workspace without a proof": {"authorization": used["authorization"]},
        "request of another direct workspace": of_elsewhere,
        "two tokens": {"Authorization": f"Bearer {owner.token}, Bearer {other.token}"},
    }
    yield World(
        http, gateway_url, owner, other, owner.workspace, public, direct, visitor, visited,
        {name: {**visiting, **shown} for name, shown in principals.items()},
        {"of its user": envelope, "of another workspace's user": envelope_of_elsewhere},
    )  # fmt: skip
    for workspace in workspaces_since(kubectl, before):
        names = (f"userworkspace/{workspace.name}", f"pvc/{workspace.child}")
        kubectl.run("delete", "--ignore-not-found", "--wait=false", *names)


# What each principal gets at each endpoint. `*` is everybody who is not named.
EXPECTED: dict[str, dict[str, int]] = {
    "/mcp": {
        "*": 401,
        "owner": 200,
        "another user": 200,
        "made-up proof": 200,
        "user of the direct workspace": 403,
        "another user with the owner's session": 404,
    },
    "/workspaces/GATEWAY/mcp": {
        "*": 401,
        "owner": 200,
        "made-up proof": 200,
        "another user": 403,
        "user of the direct workspace": 403,
        "another user with the owner's session": 403,
    },
    "/workspaces/PUBLIC/mcp": {
        "*": 200,
        "another user with the owner's session": 404,
        "nobody with the owner's session": 404,
        "nobody with a visitor's session": 404,
        "made-up anonymous session": 401,
    },
    "/workspaces/DIRECT/mcp": {
        "*": 401,
        "another user with the owner's session": 404,
        "nobody with the owner's session": 404,
        "nobody with a visitor's session": 404,
    },
    "/workspaces/VISITED/mcp": {"*": 404},
    "/workspaces/no-such-workspace/mcp": {"*": 404},
    "/public/mcp": {
        "*": 200,  # whoever shows nothing that it knows is a new visitor, or one that came before
        "owner": 401,
        "another user": 401,
        "user of the direct workspace": 401,
        "expired": 401,
        "other audience": 401,
        "other key": 401,
        "unsigned": 401,
        "reserved name": 401,
        "name of the gateway": 401,
        "made-up API key": 401,
        "forged visitor": 401,
        "made-up proof": 401,
        "replayed request of the direct workspace": 401,
        "token of the direct workspace without a proof": 401,
        "request of another direct workspace": 401,
        "two tokens": 401,
        "another user with the owner's session": 401,
        "nobody with the owner's session": 404,
    },
    "pod of GATEWAY": {"*": 401, "identity that was read on the way": 200},
    "pod of PUBLIC": {"*": 401},
    "pod of DIRECT": {"*": 401},
    "pod of VISITED": {"*": 401},
}
NEW_VISITORS = {
    "nobody",
    "identity that was read on the way",
    "identity of another install",
    "identity of the operator",
    "bare header",
    "made-up anonymous session",
}
"""At /public/mcp each of them would make a workspace: `test_whoever_shows_nothing_is_a_new_visitor` tries them."""


@pytest.mark.parametrize("endpoint", EXPECTED)
def test_each_principal_gets_what_is_expected(endpoint: str, world: World) -> None:
    expected = EXPECTED[endpoint]
    assert expected.keys() <= {"*", *world.principals}
    wrong = []
    for name, shown in world.principals.items():
        if endpoint == "/public/mcp" and name in NEW_VISITORS:
            continue
        sent = {"Content-Type": "application/json", **headers("tools/list"), **shown}
        response = world.http.post(world.url(endpoint), content=json.dumps(payload("tools/list")), headers=sent)
        wanted = expected.get(name, expected["*"])
        if response.status_code != wanted:
            wrong.append(f"{name}: {response.status_code} in place of {wanted}: {response.text[:300]}")
        if not response.is_success:
            body = response.json()
            assert (body["jsonrpc"], "result" in body) == ("2.0", False), response.text
    assert wrong == []


@pytest.mark.parametrize("name", sorted(NEW_VISITORS))
def test_whoever_shows_nothing_is_a_new_visitor(name: str, world: World, kubectl: Kubectl) -> None:
    """And not the owner of what was shown. A request that is no request makes none."""
    before = anonymous_workspaces(kubectl)
    body = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"})
    sent = {"Content-Type": "application/json", "Accept": ACCEPT, **world.principals[name]}
    response = world.http.post(world.url("/public/mcp"), content=body, headers=sent)
    assert response.status_code == 400
    assert workspaces_since(kubectl, before) == []


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/workspaces/DIRECT/direct/key", {"*": 200}),
        ("GET", "/workspaces/PUBLIC/direct/key", {"*": 403}),
        ("GET", "/workspaces/VISITED/direct/key", {"*": 404}),
        ("GET", "/v1/conversations", {"*": 401, "owner": 200, "another user": 200, "made-up proof": 200,
                                      "another user with the owner's session": 200,
                                      "user of the direct workspace": 403}),
        ("GET", "/public/v1/models", {"*": 401, "nobody": 400, "visitor": 200, "visitor as a token": 200,
                                      "identity that was read on the way": 400, "identity of another install": 400,
                                      "identity of the operator": 400, "bare header": 400,
                                      "nobody with the owner's session": 400,
                                      "nobody with a visitor's session": 400, "made-up anonymous session": 400}),
    ],
)  # fmt: skip
def test_the_other_endpoints(method: str, path: str, expected: dict[str, int], world: World) -> None:
    wrong = []
    for name, shown in world.principals.items():
        response = world.http.request(method, world.url(path), headers=shown)
        wanted = expected.get(name, expected["*"])
        if response.status_code != wanted:
            wrong.append(f"{name}: {response.status_code} in place of {wanted}: {response.text[:300]}")
    assert wrong == []


def test_what_is_no_envelope_gives_no_session(world: World) -> None:
    url = world.url("/workspaces/DIRECT/direct/session")
    for name, shown in world.principals.items():
        for body in ("", "{}", "[]", json.dumps({"kid": "x", "enc": "AAAA", "ciphertext": "AAAA"})):
            response = world.http.post(url, content=body, headers={**shown, "Content-Type": "application/json"})
            assert 400 <= response.status_code < 500, f"{name}: {response.status_code}"
            assert "token" not in response.json().get("result", {})


@pytest.mark.parametrize(
    ("door", "expected"),
    [
        ("/workspaces/DIRECT/direct/session", {401}),
        ("/workspaces/PUBLIC/direct/session", {403}),
        ("/workspaces/GATEWAY/direct/session", {401, 403}),
        ("/workspaces/VISITED/direct/session", {404}),
        ("/workspaces/DIRECT/mcp", {400}),  # it is no message, and gets no further than that
        ("/mcp", {401}),
    ],
)
def test_a_sealed_credential_that_was_used_opens_nothing(door: str, expected: set[int], world: World) -> None:
    """Not in its own workspace, not in another, and not as a message, whoever brings it."""
    for name in ("nobody", "replayed request of the direct workspace", "request of another direct workspace"):
        sent = {"Content-Type": "application/json", "Accept": ACCEPT, **world.principals[name]}
        answers = [
            world.http.post(world.url(door), content=envelope, headers=sent) for envelope in world.envelopes.values()
        ]
        assert {answer.status_code for answer in answers} <= expected, f"{name}: {answers[0].text}"
    if door == "/workspaces/DIRECT/direct/session":
        assert answers[0].json()["error"]["data"]["reason"] == "Replayed"


@pytest.mark.parametrize("workspace", ["gateway", "public", "direct", "visited"])
def test_the_control_port_is_the_operators(workspace: str, world: World, system: Kubectl) -> None:
    """With an identity of the gateway, of another install, for another workspace, or none, nobody gets in."""
    target: Workspace = getattr(world, workspace)
    other = world.other.workspace
    control = target.status["endpoint"].replace(":8080/mcp", ":8081/v1/report")
    operator = Signer.of_cluster(system, OPERATOR)
    refused = [
        {},
        Signer.of_cluster(system, GATEWAY).header(target.uid, "operator"),
        Signer.made_up(OPERATOR).header(target.uid, "operator"),
        operator.header(other.uid, "operator"),
        operator.header(target.uid, "operator", exp=int(time.time()) - 60, iat=int(time.time()) - 120),
    ]
    for shown in refused:
        assert world.http.get(control, headers=shown).status_code in (401, 403), shown.keys()
    assert world.http.get(control, headers=operator.header(target.uid, "operator")).status_code == 200


def test_after_all_this_everybody_is_as_before(world: World) -> None:
    assert world.owner.mcp.tools()
    assert world.other.mcp.tools()
    assert world.visitor.mcp.tools()
    assert len(world.owner.workspaces()) == 1
    assert HEADER not in world.owner.mcp.credentials
