"""An operator of a test's own: the program of the image as a process on this machine, for one namespace."""

from __future__ import annotations

import io
import json
import os
import queue
import secrets
import signal
import subprocess
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from support.kubectl import Kubectl
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "dexorder-operator"


def unpack(folder: Path) -> Path:
    """Take the operator's program out of the image that `images/build` made."""
    archive = Path(os.environ["KUBECONFIG"]).resolve().parent / "images" / "operator.tar"
    with tarfile.open(archive) as image:

        def blob(digest: str) -> bytes:
            member = image.extractfile(f"blobs/{digest.replace(':', '/')}")
            assert member is not None
            return member.read()

        index = image.extractfile("index.json")
        assert index is not None
        manifest = json.loads(blob(json.load(index)["manifests"][0]["digest"]))
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=io.BytesIO(blob(layer["digest"]))) as files:
                found = [member for member in files.getmembers() if Path(member.name).name == PROGRAM]
                if found:
                    content = files.extractfile(found[0])
                    assert content is not None
                    program = folder / PROGRAM
                    program.write_bytes(content.read())
                    program.chmod(0o755)
                    return program
    message = f"there is no {PROGRAM} in {archive}: run `make up`"
    raise AssertionError(message)


@contextmanager
def namespace_of_its_own(hint: str) -> Iterator[Kubectl]:
    """A namespace that goes with all that is in it."""
    kubectl = Kubectl(f"{hint}-{secrets.token_hex(4)}")
    kubectl.run("create", "namespace", kubectl.namespace)
    try:
        yield kubectl
    finally:
        kubectl.run("delete", "namespace", kubectl.namespace, "--wait=false")


@dataclass
class OwnOperator:
    """Serves the workspaces of one namespace that are labelled with the namespace's name. Started anew when it ends."""

    program: Path
    kubectl: Kubectl
    flags: tuple[str, ...]
    """Flags of every operator."""
    log: Path
    starts: int = 0
    deaths: int = 0
    """How often it ended at once, as `--end-after-writes` has it do."""
    _flags: tuple[str, ...] = ()
    _next_flags: queue.SimpleQueue[tuple[str, ...]] = field(default_factory=queue.SimpleQueue)
    _process: subprocess.Popen[bytes] | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _keeper: threading.Thread | None = None

    @property
    def name(self) -> str:
        """The value of the label `dexorder.io/operator` on its workspaces."""
        return self.kubectl.namespace

    def __enter__(self) -> OwnOperator:
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
        if self._keeper is not None and self._keeper.is_alive():
            self._keeper.join(timeout=30)

    def start(self, *flags: str) -> None:
        """Start it, or end it in good order and start it anew; it has these flags until it ends by itself."""
        before, self._flags = self.starts, ()
        self._next_flags.put(flags)
        if self._keeper is not None and not self._keeper.is_alive():
            self._keeper.start()

        def begun() -> bool:
            # One that was started in between has not got them.
            if self._process is not None and self._flags != flags:
                self._process.terminate()
            return self.starts > before and self._flags == flags

        eventually("the operator's start", begun, within=30, every=0.05)

    def _keep(self) -> None:
        environment = {key: value for key, value in os.environ.items() if key in {"KUBECONFIG", "PATH", "HOME"}}
        with self.log.open("ab") as log:
            while not self._stopping.is_set():
                flags = () if self._next_flags.empty() else self._next_flags.get()
                command = [
                    str(self.program),
                    f"--namespace={self.name}",
                    f"--operator-name={self.name}",
                    f"--pod-namespace={self.name}",
                    f"--pool-namespace={self.name}",
                    f"--pod-name={self.name}",
                    "--listen=127.0.0.1:0",
                    *self.flags,
                    *flags,
                ]
                self._flags = flags
                self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
                self.starts += 1
                if self._stopping.is_set():
                    self._process.terminate()
                if self._process.wait() == -signal.SIGABRT:
                    self.deaths += 1
                # An operator that can't start at all must not fill the log.
                self._stopping.wait(0.2)
