"""One user can never reach another's workspace, through the gateway or past it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from support.identity import GATEWAY, HEADER, OPERATOR, Signer
from support.mcp_http import Mcp, ToolError, headers, payload

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2

    from support.kubectl import Kubectl
    from support.users import User
    from support.workspace import Workspace

SECRET = "the plan of the first user"  # noqa: S105 - no password, a text that must not be seen elsewhere


@pytest.fixture(scope="module")
def pair(new_module_user: Callable[[], User]) -> tuple[User, User]:
    """Two users with running workspaces, the first of whom has something to hide."""
    first, second = new_module_user(), new_module_user()
    first.mcp.call("write_file", path="secret.txt", content=SECRET)
    second.mcp.tools()
    return first, second


@pytest.fixture(scope="module")
def gateway_signer(system: Kubectl) -> Signer:
    return Signer.of_cluster(system, GATEWAY)


@pytest.fixture(scope="module")
def operator_signer(system: Kubectl) -> Signer:
    return Signer.of_cluster(system, OPERATOR)


def direct(workspace: Workspace, http: httpx2.Client, credentials: dict[str, str]) -> Mcp:
    """A client that goes straight to a pod, past the gateway."""
    return Mcp(http, workspace.status["endpoint"], credentials)


def assert_refused(response: httpx2.Response, status: int, reason: str) -> None:
    assert response.status_code == status, response.text
    body = response.json()
    assert body["jsonrpc"] == "2.0"
    assert body["error"]["data"]["reason"] == reason
    assert SECRET not in response.text


def test_each_user_has_a_pod_a_claim_and_data_of_their_own(pair: tuple[User, User]) -> None:
    first, second = pair
    assert first.workspace.pod_uid != second.workspace.pod_uid
    claims = [user.workspace.claim for user in pair]
    assert all(claims)
    volumes = {claim["spec"]["volumeName"] for claim in claims if claim is not None}
    assert len(volumes) == 2
    with pytest.raises(ToolError, match="doesn't exist"):
        second.mcp.call("read_file", path="secret.txt")
    assert first.mcp.call("read_file", path="secret.txt")["content"] == SECRET


@pytest.mark.parametrize(
    "name", ["dexorder-user", "dexorder-identity", "x-user-id", "x-forwarded-user", "dexorder-workspace"]
)
def test_a_header_that_names_another_user_changes_nothing(
    name: str, pair: tuple[User, User], gateway_signer: Signer
) -> None:
    """Even a genuine identity of the first user, sent by the second, is dropped by the gateway."""
    first, second = pair
    value = gateway_signer.sign(first.workspace.uid, first.id) if name == HEADER else first.id
    mcp = Mcp(second.http, second.endpoint, {**second.mcp.credentials, name: value})
    with pytest.raises(ToolError, match="doesn't exist"):
        mcp.call("read_file", path="secret.txt")


def test_user_ids_that_look_alike_are_different_users(new_user: Callable[[], User]) -> None:
    """The name of a workspace is made of the letters of the ID and a hash of the whole ID."""
    model = new_user()
    alike = [f"{model.id}.x", f"{model.id.upper()}-X"]
    users = [type(model)(id_, model.kubectl, model.http, model.gateway_url) for id_ in alike]
    try:
        users[0].mcp.call("write_file", path="secret.txt", content=SECRET)
        for other in users[1:]:
            with pytest.raises(ToolError, match="doesn't exist"):
                other.mcp.call("read_file", path="secret.txt")
        assert len({user.workspace.name for user in users}) == len(users)
    finally:
        for user in users:
            user.remove()


@pytest.mark.parametrize("user_id", ["../x", "auth0|5f7c8ec7c33c6c004bbafe82", "Jörg@example.com"])
def test_a_user_id_of_another_alphabet_gets_a_workspace(user_id: str, new_user: Callable[[], User]) -> None:
    model = new_user()
    user = type(model)(f"{model.id}-{user_id}", model.kubectl, model.http, model.gateway_url)
    try:
        assert "run_indicator" in user.mcp.tools()
    finally:
        user.remove()


class TestPastTheGateway:
    """The pod's address is reachable here; it lets nobody in without an identity that the gateway signed for it."""

    def test_without_an_identity(self, pair: tuple[User, User], http: httpx2.Client) -> None:
        response = direct(pair[0].workspace, http, {}).send("tools/list")
        assert_refused(response, 401, "Unauthenticated")

    def test_with_the_users_own_bearer_token(self, pair: tuple[User, User], http: httpx2.Client) -> None:
        first, _ = pair
        response = direct(first.workspace, http, dict(first.mcp.credentials)).send("tools/list")
        assert_refused(response, 401, "Unauthenticated")

    def test_with_a_bare_user_header(self, pair: tuple[User, User], http: httpx2.Client) -> None:
        first, _ = pair
        response = direct(first.workspace, http, {"dexorder-user": first.id}).send("tools/list")
        assert_refused(response, 401, "Unauthenticated")

    def test_with_an_identity_of_a_made_up_key(self, pair: tuple[User, User], http: httpx2.Client) -> None:
        workspace = pair[0].workspace
        identity = Signer.made_up(GATEWAY).header(workspace.uid, pair[0].id)
        assert_refused(direct(workspace, http, identity).send("tools/list"), 401, "Unauthenticated")

    def test_with_the_identity_for_another_workspace(
        self, pair: tuple[User, User], http: httpx2.Client, gateway_signer: Signer
    ) -> None:
        first, second = pair
        identity = gateway_signer.header(second.workspace.uid, first.id)
        assert_refused(direct(first.workspace, http, identity).send("tools/list"), 401, "Unauthenticated")

    def test_with_the_identity_of_another_user(
        self, pair: tuple[User, User], http: httpx2.Client, gateway_signer: Signer
    ) -> None:
        first, second = pair
        identity = gateway_signer.header(first.workspace.uid, second.id)
        assert_refused(direct(first.workspace, http, identity).send("tools/list"), 403, "WrongUser")

    def test_with_an_identity_that_has_ended_or_lives_too_long(
        self, pair: tuple[User, User], http: httpx2.Client, gateway_signer: Signer
    ) -> None:
        first, _ = pair
        now = int(time.time())
        for times in ({"iat": now - 120, "exp": now - 60}, {"iat": now, "exp": now + 3600}):
            identity = gateway_signer.header(first.workspace.uid, first.id, **times)
            assert_refused(direct(first.workspace, http, identity).send("tools/list"), 401, "Unauthenticated")

    def test_with_the_operators_identity(
        self, pair: tuple[User, User], http: httpx2.Client, operator_signer: Signer
    ) -> None:
        """Who may stop a workspace may not read it."""
        first, _ = pair
        for subject in ("operator", first.id):
            identity = operator_signer.header(first.workspace.uid, subject)
            assert_refused(direct(first.workspace, http, identity).send("tools/list"), 401, "Unauthenticated")

    def test_with_the_right_identity(
        self, pair: tuple[User, User], http: httpx2.Client, gateway_signer: Signer
    ) -> None:
        """So that the refusals above are about the identity and nothing else."""
        first, _ = pair
        identity = gateway_signer.header(first.workspace.uid, first.id)
        mcp = direct(first.workspace, http, identity)
        assert mcp.call("read_file", path="secret.txt")["content"] == SECRET


class TestControlPort:
    """Only the operator may ask for the report or stop a workspace."""

    @staticmethod
    def url(workspace: Workspace, path: str) -> str:
        endpoint: str = workspace.status["endpoint"]
        return endpoint.replace(":8080/mcp", f":8081{path}")

    def test_a_drain_without_an_identity_is_refused(self, pair: tuple[User, User], http: httpx2.Client) -> None:
        url = self.url(pair[0].workspace, "/v1/drain")
        assert http.post(url, json={"mode": "Force"}).status_code == 401

    def test_a_drain_with_the_gateways_identity_is_refused(
        self, pair: tuple[User, User], http: httpx2.Client, gateway_signer: Signer
    ) -> None:
        workspace = pair[0].workspace
        for subject in ("operator", pair[0].id):
            identity = gateway_signer.header(workspace.uid, subject)
            url = self.url(workspace, "/v1/drain")
            assert http.post(url, json={"mode": "Force"}, headers=identity).status_code == 401

    def test_a_drain_meant_for_another_workspace_is_refused(
        self, pair: tuple[User, User], http: httpx2.Client, operator_signer: Signer
    ) -> None:
        first, second = (user.workspace for user in pair)
        identity = operator_signer.header(second.uid, "operator")
        assert http.post(self.url(first, "/v1/drain"), json={"mode": "Force"}, headers=identity).status_code == 401

    def test_the_report_is_for_the_operator(
        self, pair: tuple[User, User], http: httpx2.Client, operator_signer: Signer
    ) -> None:
        workspace = pair[0].workspace
        url = self.url(workspace, "/v1/report")
        assert http.get(url).status_code == 401
        report = http.get(url, headers=operator_signer.header(workspace.uid, "operator"))
        assert report.status_code == 200
        assert report.json()["draining"] is False
        assert report.json()["agentReady"] is True

    def test_mcp_is_not_served_on_the_control_port(
        self, pair: tuple[User, User], http: httpx2.Client, gateway_signer: Signer
    ) -> None:
        workspace = pair[0].workspace
        identity = gateway_signer.header(workspace.uid, pair[0].id)
        sent = {**headers("tools/list"), **identity}
        url = self.url(workspace, "/mcp")
        assert http.post(url, content=json.dumps(payload("tools/list")), headers=sent).status_code == 404
