"""A gateway of the installed image with another configuration, in a pod of its own beside the installed gateway.

The pod never becomes ready, so no user's request comes to it; the tests go to its address.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import yaml

from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from support.kubectl import Kubectl, Object

START_SECONDS = 120.0
DEPLOYMENT = "dexorder-gateway"
FILES = "dexorder-gateway-files"


@dataclass(frozen=True, slots=True)
class OtherGateway:
    """One pod."""

    system: Kubectl
    name: str

    def start(
        self,
        change: Callable[[dict[str, Any]], None],
        files: Mapping[str, str],
        secrets: Mapping[str, str] | None = None,
    ) -> str:
        """Make the pod, with the installed configuration changed, and return its URL once it serves.

        The files are at /etc/dexorder/files, each of the secrets at the folder that stands for it.
        """
        deployment = self.system.get("deployment", DEPLOYMENT)
        installed = self.system.get("configmap", DEPLOYMENT)
        assert deployment is not None
        assert installed is not None
        config = yaml.safe_load(installed["data"]["gateway.yaml"])
        change(config)
        data = {"gateway.yaml": yaml.safe_dump(config), **files}
        self.system.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.name}, "data": data})
        self.system.apply(self._pod(deployment["spec"]["template"], secrets or {}))
        return eventually("the other gateway serves", self._url, within=START_SECONDS)

    def _pod(self, template: Object, secrets: Mapping[str, str]) -> Object:
        spec: Any = copy.deepcopy(template["spec"])
        for volume in spec["volumes"]:
            if volume.get("configMap", {}).get("name") in (DEPLOYMENT, FILES):
                volume["configMap"]["name"] = self.name
        gateway = spec["containers"][0]
        gateway.pop("readinessProbe", None)
        gateway["resources"] = {}
        for folder, secret in secrets.items():
            spec["volumes"].append({"name": secret, "secret": {"secretName": secret, "defaultMode": 0o440}})
            gateway["volumeMounts"].append({"name": secret, "mountPath": folder, "readOnly": True})
        spec |= {
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

    def stop(self) -> None:
        """Remove the pod and its configuration."""
        self.system.run("delete", "pod", self.name, "--ignore-not-found", "--force", "--grace-period=0")
        self.system.run("delete", "configmap", self.name, "--ignore-not-found")
