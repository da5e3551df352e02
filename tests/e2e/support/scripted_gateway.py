"""A gateway of the installed image whose model is the scripted one, in a pod of its own beside the installed gateway.

The pod never becomes ready, so no user's request comes to it; the tests go to its address. The model's server is its
second container, from which the gateway's process can be killed outright.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.gateway_pod import GatewayPod
from support.scripted_llm import TOOK

SCRIPT = Path(__file__).with_name("scripted_llm.py")
KILL = """
import os, signal
for entry in os.scandir("/proc"):
    if entry.name.isdigit() and int(entry.name) != os.getpid():
        with open(f"/proc/{entry.name}/cmdline", "rb") as file:
            if b"--config=/etc/dexorder/gateway.yaml" in file.read():
                os.kill(int(entry.name), signal.SIGKILL)
"""
"""Run in the second container, it ends the gateway's process as a lost machine would."""


@dataclass(frozen=True, slots=True)
class ScriptedGateway(GatewayPod):
    """One pod."""

    provider: str

    def start(self, *, agent_image: str, piece: int = 4096, pause: float = 0, **settings: str) -> str:
        """Make the pod and return the gateway's URL once it serves. The settings are the chat's."""

        def add_model(spec: dict[str, Any]) -> None:
            gateway = spec["containers"][0]
            spec["shareProcessNamespace"] = True
            spec["containers"].append(
                {
                    "name": "llm",
                    "image": agent_image,
                    "imagePullPolicy": gateway["imagePullPolicy"],
                    "command": ["python3", "-u", "/llm/llm.py"],
                    "env": [{"name": "PIECE", "value": str(piece)}, {"name": "PAUSE", "value": str(pause)}],
                    "securityContext": gateway["securityContext"],
                    "volumeMounts": [{"name": "config", "mountPath": "/llm", "readOnly": True}],
                }
            )

        files = {"llm.py": SCRIPT.read_text()}
        return self.make(lambda installed: self._config(installed, settings), files, add_model)

    def _config(self, installed: str, settings: dict[str, str]) -> str:
        """The installed configuration with another chat: a later document's key stands in for the chat's."""
        before, _, after = installed.partition("\nchat:")
        rest = after.splitlines()
        # What follows the chat's lines, which are indented.
        tail = next((place for place, line in enumerate(rest) if line and not line.startswith(" ")), len(rest))
        base = "http://127.0.0.1:8000/v1"
        own = {"provider": self.provider, "baseUrl": base, "model": "scripted", "toolTimeout": "1m", **settings}
        # What is JSON is YAML, too.
        chat = f"chat: {json.dumps(own)}"
        return "\n".join([before, chat, *rest[tail:], ""])

    def took(self) -> list[float]:
        """The seconds that each of the model's answers took, in order."""
        lines = self.system.run("logs", self.name, "--container", "llm").splitlines()
        return [float(line.removeprefix(TOOK)) for line in lines if line.startswith(TOOK)]

    def kill(self) -> None:
        """Kill the gateway's process; it is started again."""
        self.system.run("exec", self.name, "--container", "llm", "--", "python3", "-c", KILL)

    def restarts(self) -> int:
        """How often the gateway's container was started again."""
        pod = self.system.get("pod", self.name)
        statuses = (pod or {}).get("status", {}).get("containerStatuses", [])
        return sum(int(status["restartCount"]) for status in statuses if status["name"] == "gateway")
