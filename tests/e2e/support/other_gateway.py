"""A gateway of the installed image whose configuration a test changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from support.gateway_pod import DEPLOYMENT, GatewayPod

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FILES = "dexorder-gateway-files"


@dataclass(frozen=True, slots=True)
class OtherGateway(GatewayPod):
    """One pod."""

    REPLACED: ClassVar[tuple[str, ...]] = (DEPLOYMENT, FILES)

    def start(
        self,
        change: Callable[[dict[str, Any]], None],
        files: Mapping[str, str],
        secrets: Mapping[str, str] | None = None,
    ) -> str:
        """Make the pod, with the installed configuration changed, and return its URL once it serves.

        The files are at /etc/dexorder/files, each of the secrets at the folder that stands for it.
        """

        def configure(installed: str) -> str:
            config = yaml.safe_load(installed)
            change(config)
            text: str = yaml.safe_dump(config)
            return text

        def mount(spec: dict[str, Any]) -> None:
            for folder, secret in (secrets or {}).items():
                spec["volumes"].append({"name": secret, "secret": {"secretName": secret, "defaultMode": 0o440}})
                spec["containers"][0]["volumeMounts"].append({"name": secret, "mountPath": folder, "readOnly": True})

        return self.make(configure, files, mount)
