"""Memory of the operator, the gateway and the sidecars on this node, and the sizes of the images.

Of the sidecar besides: one workspace of each auth mode, which the run makes and uses. Its calls, and in mode Direct its
logins with a password, are behind it then. `peak` is the most that it ever was.
"""

from __future__ import annotations

import json
import re
import secrets
import statistics
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from dexorder_direct import DirectAuth, Password
from dexorder_direct.hashing import hash_password
from support.kubectl import SYSTEM_NAMESPACE, WORKSPACE_NAMESPACE, Kubectl
from support.mcp_http import Mcp
from support.users import User
from support.visitors import SESSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kubectl import Object

LOCAL = Path(__file__).resolve().parents[2] / ".local"
RESULT = LOCAL / "bench" / "memory.json"
MIB = 1024 * 1024
MODES = {"Gateway": "standard", "Public": "free", "Direct": "enterprise"}
"""A tier that has the mode."""
CALLS = 100
LOGINS = 10
START_SECONDS = 60
PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
FIELDS = re.compile(r"^(Rss|Pss|Private_Dirty|Anonymous):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the processes of one container use, in MiB: all, their share, and what is theirs alone and not a file's."""

    resident: float
    proportional: float
    anonymous: float
    peak: float


def container_ids(pods: list[Object], container: str) -> list[str]:
    """The IDs of the running containers of that name."""
    statuses = [
        status
        for pod in pods
        for kind in ("initContainerStatuses", "containerStatuses")
        for status in pod.get("status", {}).get(kind, [])
    ]
    return [
        status["containerID"].partition("://")[2]
        for status in statuses
        if status["name"] == container and "running" in status["state"]
    ]


def processes(container_id: str) -> list[Path]:
    """The processes of a container in /proc."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if container_id in (process / "cgroup").read_text():
                found.append(process)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def memory_of(container_id: str) -> Memory:
    """The sum over the processes of a container."""
    found = processes(container_id)
    if not found:
        sys.exit("a container's processes are not on this machine: measure on the node of the local cluster")
    totals: dict[str, float] = {}
    for process in found:
        for name, kilobytes in FIELDS.findall((process / "smaps_rollup").read_text()):
            totals[name] = totals.get(name, 0) + int(kilobytes) / 1024
    peaks = [PEAK.findall((process / "status").read_text()) for process in found]
    return Memory(totals["Rss"], totals["Pss"], totals["Anonymous"], sum(int(peak[0]) for peak in peaks) / 1024)


def row(found: list[Memory]) -> dict[str, Any]:
    """The median over the containers of one program."""
    return {
        "containers": len(found),
        "resident_mib": round(statistics.median(memory.resident for memory in found), 1),
        "proportional_mib": round(statistics.median(memory.proportional for memory in found), 1),
        "anonymous_mib": round(statistics.median(memory.anonymous for memory in found), 1),
        "peak_mib": round(statistics.median(memory.peak for memory in found), 1),
    }


@contextmanager
def used_workspaces() -> Iterator[dict[str, Object]]:
    """The pod of a workspace of each auth mode that has been used."""
    kubectl = Kubectl(WORKSPACE_NAMESPACE)
    with httpx2.Client(trust_env=False, timeout=90) as http:
        users = {mode: User.of_environment(f"memory-{secrets.token_hex(4)}", kubectl, http) for mode in MODES}
        try:
            yield {mode: used(mode, user) for mode, user in users.items()}
        finally:
            for user in users.values():
                user.remove()
                kubectl.run("delete", "secret", user.id, "--ignore-not-found")


def used(mode: str, user: User) -> Object:
    """Make a workspace of that mode, call it, and return its pod."""
    auth: Object = {"mode": mode}
    password = secrets.token_urlsafe()
    if mode == "Direct":
        hashed = f"--from-literal={user.id}={hash_password(password)}"
        user.kubectl.run("create", "secret", "generic", user.id, hashed)
        auth["direct"] = {"credentialsSecretRef": {"name": user.id}}
    workspace = user.make_workspace(tier=MODES[mode], auth=auth)
    workspace.wait("Ready", within=START_SECONDS)
    url = f"{user.gateway_url}/workspaces/{workspace.name}"
    for _ in range(LOGINS):
        login = None
        credentials = dict(user.mcp.credentials) if mode == "Gateway" else {}
        if mode == "Direct":
            login = DirectAuth(url, user.id, Password(password), [workspace.status["publicKey"]])
        with httpx2.Client(auth=login, trust_env=False, timeout=90) as http:
            for _ in range(CALLS // LOGINS):
                response = Mcp(http, f"{url}/mcp", credentials).send("tools/list")
                assert response.is_success, response.text
                # A visitor's session has a quota of its own.
                if SESSION in response.headers:
                    credentials[SESSION] = response.headers[SESSION]
    pod = workspace.pod
    assert pod is not None
    return pod


def main() -> None:
    """Measure, print, write."""
    rows: dict[str, dict[str, Any]] = {}
    with used_workspaces() as used_pods:
        system = Kubectl(SYSTEM_NAMESPACE).list("pods")
        workspaces = Kubectl(WORKSPACE_NAMESPACE).list("pods", "--selector=app.kubernetes.io/name=dexorder-workspace")
        programs = {"operator": system, "gateway": system, "sidecar": workspaces, "agent": workspaces}
        of_modes = {f"sidecar, {mode}": [pod] for mode, pod in used_pods.items()}
        for program, pods in {**programs, **of_modes}.items():
            containers = container_ids(pods, program.partition(",")[0])
            if not containers:
                sys.exit(f"no {program} runs: bring the cluster up first")
            rows[program] = row([memory_of(container) for container in containers])
    images = {
        program: round((LOCAL / "images" / f"{program}.tar").stat().st_size / MIB, 1)
        for program in programs
        if (LOCAL / "images" / f"{program}.tar").is_file()
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"memory": rows, "image_mib": images}, indent=2) + "\n")

    print(f"{'program':<18}{'resident':>10}{'share':>8}{'own':>8}{'peak':>8}{'image':>8}   (MiB)")
    for program, figures in rows.items():
        values = [figures[f"{name}_mib"] for name in ("resident", "proportional", "anonymous", "peak")]
        image = images.get(program, "-")
        columns = f"{values[0]:>10}{values[1]:>8}{values[2]:>8}{values[3]:>8}{image:>8}"
        print(f"{program:<18}{columns}   {figures['containers']} running")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
