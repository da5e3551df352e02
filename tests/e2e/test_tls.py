"""TLS at the gateway itself: the certificate of a Secret, replaced while connections are open."""

from __future__ import annotations

import base64
import http.client
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from support.certificates import self_signed
from support.other_gateway import OtherGateway
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.kubectl import Kubectl

SECRET = "e2e-gateway-tls"  # noqa: S105 - the name of the Secret
FOLDER = "/etc/dexorder/e2e-tls"
SHOWN_SECONDS = 240
"""The kubelet shows a pod a changed Secret within a minute or so."""


def _install(system: Kubectl, certificate: bytes, key: bytes) -> None:
    data = {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(key).decode()}
    metadata = {"name": SECRET}
    system.apply(
        {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data}
    )


@pytest.fixture
def first(system: Kubectl) -> Iterator[bytes]:
    """The certificate that the gateway begins with."""
    certificate, key = self_signed("first", "127.0.0.1")
    _install(system, certificate, key)
    yield certificate
    system.run("delete", "secret", SECRET, "--ignore-not-found")


def _shown(address: tuple[str, int]) -> bytes:
    return ssl.get_server_certificate(address, timeout=30).strip().encode()


def _status(connection: http.client.HTTPSConnection) -> int:
    connection.request("GET", "/healthz")
    response = connection.getresponse()
    response.read()
    return response.status


def test_a_new_certificate_is_taken_up_and_open_connections_live_on(system: Kubectl, first: bytes) -> None:
    def change(config: dict[str, object]) -> None:
        config["tls"] = {"folder": FOLDER}

    gateway = OtherGateway(system, "e2e-tls-gateway")
    gateway.stop()
    try:
        url = urlsplit(gateway.start(change, {}, {FOLDER: SECRET}))
        assert url.hostname is not None
        address = (url.hostname, url.port or 0)
        assert _shown(address) == first.strip()
        trusted = ssl.create_default_context(cadata=first.decode())
        trusted.check_hostname = False
        connection = http.client.HTTPSConnection(*address, context=trusted, timeout=30)
        assert _status(connection) == 200
        opened = connection.sock
        second, key = self_signed("second", "127.0.0.1")
        _install(system, second, key)

        def taken_up() -> bool:
            # The open connection is used all the while.
            assert _status(connection) == 200
            return _shown(address) == second.strip()

        eventually("the new certificate is shown", taken_up, within=SHOWN_SECONDS, every=1)
        assert _status(connection) == 200
        assert connection.sock is opened
        connection.close()
        # Plain HTTP gets nowhere.
        plain = http.client.HTTPConnection(*address, timeout=30)
        plain.request("GET", "/healthz")
        with pytest.raises((http.client.HTTPException, OSError)):
            plain.getresponse()
        plain.close()
    finally:
        gateway.stop()
