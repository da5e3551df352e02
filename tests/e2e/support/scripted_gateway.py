"""A gateway of the installed image whose model is the scripted one, in a pod of its own beside the installed gateway.

The pod never becomes ready, so no user's request comes to it; the tests go to its address. The model's server is its
second container, from which the gateway's process can be killed outright.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from support.waiting import eventually

if TYPE_CHECKING:
    from support.kubectl import Kubectl, Object

SCRIPT = Path(__file__).with_name("scripted_llm.py")
START_SECONDS = 120.0
DEPLOYMENT = "dexorder-gateway"
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
class ScriptedGateway:
    """One pod."""

    system: Kubectl
    name: str
    provider: str

    def start(self, *, agent_image: str, piece: int = 4096, pause: float = 0) -> str:
        """Make the pod and return the gateway's URL once it serves."""
        deployment = self.system.get("deployment", DEPLOYMENT)
        config = self.system.get("configmap", DEPLOYMENT)
        assert deployment is not None
        assert config is not None
        self.system.apply(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": self.name},
                "data": {
                    "gateway.yaml": self._config(config["data"]["gateway.yaml"]),
                    "llm.py": SCRIPT.read_text(),
                },
            }
        )
        environment = {"PIECE": str(piece), "PAUSE": str(pause)}
        self.system.apply(self._pod(deployment["spec"]["template"], agent_image, environment))
        return eventually("the scripted gateway serves", self._url, within=START_SECONDS)

    def _config(self, installed: str) -> str:
        """The installed configuration with another chat: a later document's key stands in for the chat's."""
        before, _, after = installed.partition("\nchat:")
        rest = after.splitlines()
        # What follows the chat's lines, which are indented.
        tail = next((place for place, line in enumerate(rest) if line and not line.startswith(" ")), len(rest))
        base = "http://127.0.0.1:8000/v1"
        chat = f"chat: {{provider: {self.provider}, baseUrl: '{base}', model: scripted, toolTimeout: 1m}}"
        return "\n".join([before, chat, *rest[tail:], ""])

    def _pod(self, template: Object, agent_image: str, environment: dict[str, str]) -> Object:
        spec: Any = copy.deepcopy(template["spec"])
        for volume in spec["volumes"]:
            if volume.get("configMap", {}).get("name") == DEPLOYMENT:
                volume["configMap"]["name"] = self.name
        gateway = spec["containers"][0]
        gateway.pop("readinessProbe", None)
        gateway["resources"] = {}
        spec["containers"].append(
            {
                "name": "llm",
                "image": agent_image,
                "imagePullPolicy": gateway["imagePullPolicy"],
                "command": ["python3", "-u", "/llm/llm.py"],
                "env": [{"name": name, "value": value} for name, value in environment.items()],
                "securityContext": gateway["securityContext"],
                "volumeMounts": [{"name": "config", "mountPath": "/llm", "readOnly": True}],
            }
        )
        spec |= {
            "shareProcessNamespace": True,
            "readinessGates": [{"conditionType": "dexorder.io/never"}],
            "terminationGracePeriodSeconds": 1,
        }
        metadata = {"name": self.name, "labels": template["metadata"]["labels"]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def _url(self) -> str | None:
        pod = self.system.get("pod", self.name)
        address = (pod or {}).get("status", {}).get("podIP")
        if not address:
            return None
        try:
            ready = httpx2.get(f"http://{address}:9090/readyz", trust_env=False, timeout=5)
        except httpx2.TransportError:
            return None
        return f"http://{address}:8080" if ready.status_code == httpx2.codes.OK else None

    def kill(self) -> None:
        """Kill the gateway's process; it is started again."""
        self.system.run("exec", self.name, "--container", "llm", "--", "python3", "-c", KILL)

    def restarts(self) -> int:
        """How often the gateway's container was started again."""
        pod = self.system.get("pod", self.name)
        statuses = (pod or {}).get("status", {}).get("containerStatuses", [])
        return sum(int(status["restartCount"]) for status in statuses if status["name"] == "gateway")

    def wait_until_served(self) -> None:
        """Wait until the gateway serves again."""
        eventually("the scripted gateway serves again", self._url, within=START_SECONDS)

    def stop(self) -> None:
        """Remove the pod and its configuration."""
        self.system.run("delete", "pod", self.name, "--ignore-not-found", "--force", "--grace-period=0")
        self.system.run("delete", "configmap", self.name, "--ignore-not-found")
