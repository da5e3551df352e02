"""Memory of the operator, the gateway and the sidecars on this node, and the sizes of the images."""

from __future__ import annotations

import json
import re
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.kubectl import SYSTEM_NAMESPACE, WORKSPACE_NAMESPACE, Kubectl

if TYPE_CHECKING:
    from support.kubectl import Object

LOCAL = Path(__file__).resolve().parents[2] / ".local"
RESULT = LOCAL / "bench" / "memory.json"
MIB = 1024 * 1024
FIELDS = re.compile(r"^(Rss|Pss|Private_Dirty|Anonymous):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the processes of one container use, in MiB: all, their share, and what is theirs alone and not a file's."""

    resident: float
    proportional: float
    anonymous: float


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
    return Memory(totals["Rss"], totals["Pss"], totals["Anonymous"])


def row(found: list[Memory]) -> dict[str, Any]:
    """The median over the containers of one program."""
    return {
        "containers": len(found),
        "resident_mib": round(statistics.median(memory.resident for memory in found), 1),
        "proportional_mib": round(statistics.median(memory.proportional for memory in found), 1),
        "anonymous_mib": round(statistics.median(memory.anonymous for memory in found), 1),
    }


def main() -> None:
    """Measure, print, write."""
    system = Kubectl(SYSTEM_NAMESPACE).list("pods")
    workspaces = Kubectl(WORKSPACE_NAMESPACE).list("pods", "--selector=app.kubernetes.io/name=dexorder-workspace")
    programs = {"operator": system, "gateway": system, "sidecar": workspaces, "agent": workspaces}
    rows: dict[str, dict[str, Any]] = {}
    for program, pods in programs.items():
        found = [memory_of(container_id) for container_id in container_ids(pods, program)]
        if not found:
            sys.exit(f"no {program} runs: bring the cluster up and call a workspace first")
        rows[program] = row(found)
    images = {
        program: round((LOCAL / "images" / f"{program}.tar").stat().st_size / MIB, 1)
        for program in programs
        if (LOCAL / "images" / f"{program}.tar").is_file()
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"memory": rows, "image_mib": images}, indent=2) + "\n")

    print(f"{'program':<10}{'resident':>10}{'share':>8}{'own':>8}{'image':>8}   (MiB)")
    for program, figures in rows.items():
        values = [figures["resident_mib"], figures["proportional_mib"], figures["anonymous_mib"]]
        image = images.get(program, "-")
        print(f"{program:<10}{values[0]:>10}{values[1]:>8}{values[2]:>8}{image:>8}   {figures['containers']} running")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
