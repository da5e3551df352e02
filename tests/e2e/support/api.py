"""The API server over plain HTTP, for measurements that kubectl's own start would blur."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kubectl import Kubectl, Object


@contextmanager
def api(kubectl: Kubectl) -> Iterator[httpx2.Client]:
    """A client with the credentials of the current context, whose certificate is in the kubeconfig."""
    config = kubectl.read("config", "view", "--raw", "--minify", "--flatten")
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]))
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:
        pair.write(_decoded(user["client-certificate-data"]) + _decoded(user["client-key-data"]))
        pair.flush()
        context.load_cert_chain(Path(pair.name))
    with httpx2.Client(base_url=cluster["server"], verify=context, trust_env=False, timeout=60) as client:
        yield client


def _decoded(data: str) -> str:
    return base64.b64decode(data).decode()


def watch(client: httpx2.Client, path: str, **query: Any) -> Iterator[Object]:
    """The objects of a watch as they change; it ends when the caller stops looking."""
    with client.stream("GET", path, params={"watch": "true", "timeoutSeconds": 60, **query}) as stream:
        stream.raise_for_status()
        for line in stream.iter_lines():
            if line:
                changed: Object = json.loads(line)["object"]
                yield changed
