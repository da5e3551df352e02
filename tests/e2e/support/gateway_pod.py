"""A gateway of the installed image with another configuration, in a pod of its own beside the installed gateway.

The pod never becomes ready, so no user's request comes to it; the tests go to its address.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import httpx2

from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from support.kubectl import Kubectl, Object

START_SECONDS = 120.0
DEPLOYMENT = "dexorder-gateway"


@dataclass(frozen=True, slots=True)
class GatewayPod:
    """One pod, and the ConfigMap of its name."""

    system: Kubectl
    name: str
    REPLACED: ClassVar[tuple[str, ...]] = (DEPLOYMENT,)
    """The installed ConfigMaps in whose place the pod's own stands."""

    def make(
        self, configure: Callable[[str], str], files: Mapping[str, str], change: Callable[[dict[str, Any]], None]
    ) -> str:
        """Make the pod and return its URL once it serves.

        The first makes its configuration from the installed one, the last changes the installed pod's spec.
        """
        deployment = self.system.get("deployment", DEPLOYMENT)
        installed = self.system.get("configmap", DEPLOYMENT)
        assert deployment is not None
        assert installed is not None
        data = {"gateway.yaml": configure(installed["data"]["gateway.yaml"]), **files}
        self.system.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.name}, "data": data})
        self.system.apply(self._pod(deployment["spec"]["template"], change))
        return self.wait_until_served()

    def _pod(self, template: Object, change: Callable[[dict[str, Any]], None]) -> Object:
        spec: Any = copy.deepcopy(template["spec"])
        for volume in spec["volumes"]:
            if volume.get("configMap", {}).get("name") in self.REPLACED:
                volume["configMap"]["name"] = self.name
        gateway = spec["containers"][0]
        gateway.pop("readinessProbe", None)
        gateway["resources"] = {}
        change(spec)
        spec |= {
            "readinessGates": [{"conditionType": "dexorder.io/never"}],
            "terminationGracePeriodSeconds": 1,
        }
        metadata = {"name": self.name, "labels": template["metadata"]["labels"]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def wait_until_served(self) -> str:
        """Wait until the gateway serves, and return its URL."""
        return eventually(f"the gateway {self.name} serves", self._url, within=START_SECONDS)

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
