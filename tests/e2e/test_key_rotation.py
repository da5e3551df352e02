"""The signing keys of gateway and operator are replaced while users call, stop and wake: nothing fails for it.

Most of its five minutes are waiting for the kubelet, so it runs with KEY_ROTATION=1 alone.
"""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from support.identity import GATEWAY, OPERATOR, Signer
from support.kubectl import SYSTEM_NAMESPACE, Kubectl
from support.mcp_http import Mcp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.users import User

SCRIPT = Path(__file__).resolve().parents[2] / "charts" / "rotate-signing-key"
REFRESH_SECONDS = "120"
"""In which time the kubelet shows a changed Secret to a pod: it looks every 60 to 90 seconds."""
ROTATION_SECONDS = 500.0


def rotate(*arguments: str) -> None:
    """Run the script as an administrator does who knows the kubelets of a cluster of one node."""
    command = [str(SCRIPT), SYSTEM_NAMESPACE, *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=ROTATION_SECONDS,
        check=False,
        env={**os.environ, "REFRESH_SECONDS": REFRESH_SECONDS},
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def calls_without_end(user: User) -> Iterator[list[int]]:
    """A user who calls again and again; the list has the number of calls. Leaving fails if one of them did."""
    counted, over, failures = [0], threading.Event(), list[str]()

    def call() -> None:
        with httpx2.Client(trust_env=False, timeout=60) as http:
            mcp = Mcp(http, user.endpoint, user.mcp.credentials)
            while not over.wait(0.1):
                try:
                    mcp.call("list_files")
                except Exception as error:
                    failures.append(repr(error))
                    return
                counted[0] += 1

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    try:
        yield counted
    finally:
        over.set()
        caller.join()
    assert not failures, failures


@pytest.mark.skipif("KEY_ROTATION" not in os.environ, reason="takes five minutes: set KEY_ROTATION=1")
def test_keys_are_replaced_without_a_failed_request(new_user: Callable[[], User], system: Kubectl) -> None:
    working, resting = new_user(), new_user()
    working.mcp.tools()
    workspace = resting.make_workspace(operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended")
    before = {issuer: Signer.of_cluster(system, issuer).key_id for issuer in (GATEWAY, OPERATOR)}
    uid = working.workspace.pod_uid
    try:
        with calls_without_end(working) as counted:
            rotate()
            rotated = counted[0]
            after = {issuer: Signer.of_cluster(system, issuer).key_id for issuer in before}
            assert all(after[issuer] != before[issuer] for issuer in before)
            # The operator's new key is good at the pod that was there before, and at one that is made now.
            workspace.change(operatingMode="Auto")
            assert "list_files" in resting.mcp.tools()
            working.workspace.change(idleTimeout="10m")
            assert working.workspace.pod_uid == uid
            workspace.change(operatingMode="Suspended")
            workspace.wait_reason("Ready", "Suspended", within=60)
            saved = workspace.condition("Saved")
            assert saved is not None
            assert saved.reason == "Saved"
            rotate("--finish")
            assert rotated > 0
    finally:
        rotate("--finish")
    assert "list_files" in working.mcp.tools()
