"""The signing keys of gateway and operator are replaced while users call, stop and wake: nothing fails for it."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from support.identity import GATEWAY, OPERATOR, Signer
from support.kubectl import SYSTEM_NAMESPACE, Kubectl, KubectlError
from support.mcp_http import Mcp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.users import User

SCRIPT = Path(__file__).resolve().parents[2] / "charts" / "rotate-signing-key"
REFRESH_SECONDS = "12"
"""In which time a changed Secret is shown to a pod and read there. The kubelet alone takes 60 to 90 seconds."""
LOOK_SECONDS = 2.0
"""How often the kubelet is made to look. It shows the change then, and the gateway reads it within 5 seconds."""
ROTATION_SECONDS = 120.0


def rotate(*arguments: str) -> None:
    """Run the script as an administrator does who knows how soon the kubelets look."""
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
def an_attentive_kubelet(system: Kubectl) -> Iterator[None]:
    """Have the kubelet look at the volumes of operator and gateway often: it does whenever a pod is changed."""
    over, failures = threading.Event(), list[str]()

    def annotate() -> None:
        number = 0
        while not over.wait(LOOK_SECONDS):
            number += 1
            try:
                system.run("annotate", "pods", "--all", "--overwrite", f"e2e.dexorder.io/look={number}")
            except KubectlError as error:
                failures.append(str(error))

    looker = threading.Thread(target=annotate, daemon=True)
    looker.start()
    try:
        yield
    finally:
        over.set()
        looker.join()
        system.run("annotate", "pods", "--all", "e2e.dexorder.io/look-")
    assert not failures, failures


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


def test_keys_are_replaced_without_a_failed_request(new_user: Callable[[], User], system: Kubectl) -> None:
    working, resting = new_user(), new_user()
    working.mcp.tools()
    workspace = resting.make_workspace(operatingMode="Suspended")
    workspace.wait_reason("Ready", "Suspended")
    before = {issuer: Signer.of_cluster(system, issuer).key_id for issuer in (GATEWAY, OPERATOR)}
    uid = working.workspace.pod_uid
    try:
        with an_attentive_kubelet(system), calls_without_end(working) as counted:
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
            assert 0 < rotated < counted[0]
    finally:
        rotate("--finish")
    assert "list_files" in working.mcp.tools()
