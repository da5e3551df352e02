"""A bad request gets the right status and a JSON-RPC body, and makes nothing."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from support import tokens
from support.mcp_http import answer, headers, payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx2

    from support.users import User

MIB = 1024 * 1024


def error_of(response: httpx2.Response) -> dict[str, Any]:
    """The JSON-RPC error of a refusal."""
    assert response.headers["content-type"].startswith("application/json"), response.text
    body = response.json()
    assert body["jsonrpc"] == "2.0"
    assert "id" in body
    assert "result" not in body
    error: dict[str, Any] = body["error"]
    assert isinstance(error["code"], int)
    assert error["message"]
    return error


def bad_tokens(user: User) -> dict[str, str]:
    """Tokens that the gateway must not take."""
    now = int(time.time())
    audience = user.endpoint
    good = user.token
    return {
        "expired": tokens.of_user(user.id, audience, iat=now - 7200, exp=now - 3600),
        "not yet valid": tokens.of_user(user.id, audience, nbf=now + 3600),
        "without an end": tokens.of_user(user.id, audience, exp=None),
        "of another audience": tokens.of_user(user.id, "https://elsewhere.example.com/mcp"),
        "without an audience": tokens.of_user(user.id, audience, aud=None),
        "of another issuer": tokens.of_user(user.id, audience, iss="https://elsewhere.example.com"),
        "without a user": tokens.of_user(user.id, audience, sub=None),
        "of an empty user": tokens.of_user("", audience),
        "of another key": tokens.of_other_key(user.id, audience),
        "unsigned": tokens.unsigned(user.id, audience),
        "signed with the public key as a secret": tokens.of_public_key_as_secret(user.id, audience),
        "with a changed user": tokens.with_claims_changed(good, sub=f"{user.id}-other"),
        "cut short": good[: len(good) // 2],
        "that is none": "not-a-token",
    }


TOKEN_CASES = [
    "expired",
    "not yet valid",
    "without an end",
    "of another audience",
    "without an audience",
    "of another issuer",
    "without a user",
    "of an empty user",
    "of another key",
    "unsigned",
    "signed with the public key as a secret",
    "with a changed user",
    "cut short",
    "that is none",
]


@pytest.mark.parametrize("case", TOKEN_CASES)
def test_a_bad_token_is_refused_before_anything_is_made(case: str, user: User) -> None:
    response = user.with_token(bad_tokens(user)[case]).send("tools/list")
    assert response.status_code == 401
    challenge = response.headers["www-authenticate"]
    assert challenge.startswith("Bearer ")
    assert f'resource_metadata="{user.gateway_url}/.well-known/oauth-protected-resource/mcp"' in challenge
    assert 'error="invalid_token"' in challenge
    assert error_of(response)["data"]["reason"] == "Unauthenticated"
    assert user.workspaces() == []


@pytest.mark.parametrize(
    "credentials",
    [{}, {"Authorization": "Basic dHJhZGVyMTp4"}],
    ids=["none", "basic"],
)
def test_a_request_without_a_token_is_told_where_to_get_one(credentials: dict[str, str], user: User) -> None:
    body = json.dumps(payload("tools/list", id_="mine"))
    response = user.http.post(user.endpoint, content=body, headers={**headers("tools/list"), **credentials})
    assert response.status_code == 401
    assert error_of(response)["data"]["reason"] == "Unauthenticated"

    challenge = response.headers["www-authenticate"]
    metadata_url = challenge.split('resource_metadata="')[1].split('"')[0]
    metadata = user.http.get(metadata_url)
    assert metadata.status_code == 200
    assert metadata.json()["resource"] == user.endpoint
    assert metadata.json()["authorization_servers"] == [tokens.ISSUER]


@pytest.mark.parametrize("authorization", [["Bearer"], ["Bearer a", "Bearer b"]], ids=["no token", "two headers"])
def test_a_malformed_authorization_is_a_bad_request(authorization: list[str], user: User) -> None:
    shown = [(name, value) for name, value in headers("tools/list").items()]
    shown += [("Authorization", value) for value in authorization]
    response = user.http.post(user.endpoint, content=json.dumps(payload("tools/list")), headers=shown)
    assert response.status_code == 400
    assert error_of(response)["data"]["reason"] == "InvalidRequest"
    assert 'error="invalid_request"' in response.headers["www-authenticate"]
    assert user.workspaces() == []


@pytest.mark.parametrize("name", ["%FF", "%C3%28", "..%2F..%2Fmcp", "%00"])
def test_a_name_that_can_not_be_one_is_not_found(name: str, user: User) -> None:
    body = json.dumps(payload("tools/list"))
    response = user.http.post(f"{user.gateway_url}/workspaces/{name}/mcp", content=body, headers=headers("tools/list"))
    assert response.status_code == 404
    assert error_of(response)["data"]["reason"] == "NotFound"


def test_a_token_in_the_address_is_not_taken(user: User) -> None:
    body = json.dumps(payload("tools/list"))
    url = f"{user.endpoint}?access_token={user.token}"
    assert user.http.post(url, content=body, headers=headers("tools/list")).status_code == 401


MALFORMED = {
    "no JSON": b"{",
    "empty": b"",
    "no UTF-8": b'{"jsonrpc":"2.0","id":1,"method":"\xff"}',
    "no object": b'"tools/list"',
    "batch": json.dumps([payload("tools/list"), payload("tools/list")]).encode(),
    "empty batch": b"[]",
    "no method": b'{"jsonrpc":"2.0","id":1}',
    "no version": b'{"id":1,"method":"tools/list"}',
    "another version": b'{"jsonrpc":"1.0","id":1,"method":"tools/list"}',
    "an object as id": b'{"jsonrpc":"2.0","id":{},"method":"tools/list"}',
    "a number as method": b'{"jsonrpc":"2.0","id":1,"method":7}',
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_no_json_rpc_request_is_refused(case: str, user: User) -> None:
    response = user.mcp.post(MALFORMED[case], headers("tools/list"))
    assert response.status_code == 400
    assert error_of(response)["code"] in (-32700, -32600)
    assert user.workspaces() == []


def test_a_refusal_carries_the_id_of_the_request(user: User) -> None:
    body = json.dumps(payload("tools/list", id_="mine"))
    response = user.with_token("not-a-token").post(body, headers("tools/list"))
    assert response.json()["id"] == "mine"
    foreign = user.mcp.post(body, {**headers("tools/list"), "Origin": "https://evil.example.com"})
    assert foreign.json()["id"] in ("mine", None)


def large_body() -> bytes:
    """A well-formed request of 5 MiB."""
    message = payload("tools/call", {"name": "set_user_profile", "arguments": {"text": "x" * 5 * MIB}})
    return json.dumps(message).encode()


def test_a_body_of_5_mib_is_refused(user: User) -> None:
    sent = headers("tools/call", {"name": "set_user_profile"})
    response = user.mcp.post(large_body(), sent)
    assert response.status_code == 413
    assert error_of(response)["data"]["reason"] == "RequestTooLarge"
    assert user.workspaces() == []


def test_a_body_of_5_mib_in_chunks_is_refused(user: User) -> None:
    """Without a Content-Length the limit holds while the body comes in."""
    body = large_body()

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(body), 64 * 1024):
            yield body[start : start + 64 * 1024]

    sent = {**headers("tools/call", {"name": "set_user_profile"}), **user.mcp.credentials}
    response = user.http.post(user.endpoint, content=chunks(), headers={"Content-Type": "application/json", **sent})
    assert response.status_code == 413
    assert error_of(response)["data"]["reason"] == "RequestTooLarge"


def test_a_web_page_of_another_origin_is_refused(user: User) -> None:
    body = json.dumps(payload("tools/list"))
    response = user.mcp.post(body, {**headers("tools/list"), "Origin": "https://evil.example.com"})
    assert response.status_code == 403
    assert error_of(response)["data"]["reason"] == "ForbiddenOrigin"
    assert "access-control-allow-origin" not in response.headers
    assert user.workspaces() == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "OPTIONS"])
def test_another_method_is_refused(method: str, user: User) -> None:
    response = user.http.request(method, user.endpoint, headers=user.mcp.credentials)
    assert response.status_code == 405
    assert "POST" in response.headers["allow"]
    assert user.workspaces() == []


@pytest.mark.parametrize("path", ["/", "/mcp/", "/mcp/../mcp2", "/admin", "/metrics"])
def test_another_path_is_not_found(path: str, user: User) -> None:
    response = user.http.post(user.gateway_url + path, content=b"{}", headers=user.mcp.credentials)
    assert response.status_code == 404
    assert error_of(response)["data"]["reason"] == "NotFound"


@pytest.mark.parametrize("path", ["/v1/drain", "/v1/report"])
def test_the_control_of_a_workspace_is_not_reached_through_the_gateway(path: str, user: User) -> None:
    for method in ("GET", "POST"):
        response = user.http.request(method, user.gateway_url + path, headers=user.mcp.credentials)
        assert response.status_code == 404
    assert user.workspaces() == []


def test_another_content_type_is_refused(user: User) -> None:
    body = json.dumps(payload("tools/list"))
    response = user.mcp.post(body, {**headers("tools/list"), "Content-Type": "text/plain"})
    assert response.status_code in (400, 415)
    error_of(response)


def test_an_unknown_method_of_the_protocol_is_answered_by_the_agent(settled_user: User) -> None:
    response = settled_user.mcp.send("tools/burn")
    assert response.status_code == 404
    assert error_of(response)["code"] == -32601


def test_headers_that_contradict_the_body_are_refused(settled_user: User) -> None:
    """An intermediary may have decided by the headers: the protocol wants this refused."""
    body = json.dumps(payload("tools/call", {"name": "delete_indicator", "arguments": {"name": "rsi"}}))
    response = settled_user.mcp.post(body, headers("tools/call", {"name": "list_indicators"}))
    assert response.status_code == 400
    assert error_of(response)["code"] == -32020
    assert "rsi" in {entry["name"] for entry in settled_user.mcp.call("list_indicators")["indicators"]}


def test_an_unknown_tool_and_bad_arguments_say_what_is_wrong(settled_user: User) -> None:
    for params in (
        {"name": "no_such_tool", "arguments": {}},
        {"name": "run_indicator", "arguments": {"name": "no_such_indicator"}},
        {"name": "run_indicator", "arguments": {"name": "rsi", "parameters": {"period": 1}}},
        {"name": "run_indicator", "arguments": {}},
        {"name": "read_file", "arguments": {"path": "../../etc/passwd"}},
    ):
        response = settled_user.mcp.send("tools/call", params)
        text = response.text
        reply = answer(response)
        failed = "error" in reply or reply["result"].get("isError") is True
        assert failed, text
        assert "Traceback" not in text


def test_health_needs_no_token(user: User) -> None:
    assert user.http.get(f"{user.gateway_url}/healthz").status_code == 200


def test_the_gateway_goes_on_after_all_this(new_user: Callable[[], User]) -> None:
    assert "run_indicator" in new_user().mcp.tools()
