"""Fixtures of the unit tests: the golden files, disks made by qemu-img, and a server that publishes files."""

import gzip
import hashlib
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from interlock.fsm.states import State
from interlock.fsm.table import Trigger

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Return the folder of the reviewed files."""
    return GOLDEN


@pytest.fixture(scope="session")
def matrix() -> dict[tuple[Trigger, State], str]:
    """Return the reviewed matrix: what each trigger does in each state."""
    lines = (GOLDEN / "matrix.txt").read_text(encoding="utf-8").splitlines()
    head, *rows = (re.split(r"\s{2,}", line.strip()) for line in lines if line and not line.startswith("#"))
    return {
        (Trigger(trigger), State(state)): cell
        for trigger, *cells in rows
        for state, cell in zip(head, cells, strict=True)
    }


RAW = bytes(510) + b"\x55\xaa" + hashlib.shake_256().digest(400 * 1024) + bytes(1 << 20)
"""A raw disk: a partition table's signature, some content, and free space."""


def sha256(content: bytes) -> str:
    """Return the digest of `content` as publishers write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture(scope="session")
def raw() -> bytes:
    """Return the content of a raw disk."""
    return RAW


@pytest.fixture(scope="session")
def qcow2(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the content of the same disk in qcow2 form."""
    folder = tmp_path_factory.mktemp("disk")
    (folder / "raw").write_bytes(RAW)
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", folder / "raw", folder / "qcow2"]
    subprocess.run(command, check=True, timeout=60)
    return (folder / "qcow2").read_bytes()


@dataclass
class Published:
    """A file on the server, and how the server answers a request for it."""

    content: bytes
    headers: dict[str, str] = field(default_factory=dict)
    """ETag, Last-Modified."""
    ranges: bool = True
    if_range: bool = True
    """False: the server ignores If-Range and sends the requested part even if the file has changed."""
    length: int | None = None
    """The size that the server claims, if it is not the real one."""
    compress: bool = False
    """True: the server compresses the body with gzip if the client accepts that."""
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the first answers, one pair per answer."""
    cuts: list[int] = field(default_factory=list)
    """Byte counts after which the next answers are cut off, one per answer."""
    stalls: list[int] = field(default_factory=list)
    """Byte counts after which the next answers wait until `Publisher.go` is set, one per answer."""


class Publisher(ThreadingHTTPServer):
    """A real server on the loopback; `asked` holds the headers of each request, with its path under `path`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files: dict[str, Published] = {}
        self.asked: list[dict[str, str]] = []
        self.go = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def publish(self, path: str, content: bytes, **behaviour: Any) -> str:
        """Serve `content` from now on at `path`; return its URL."""
        self.files[path] = Published(content, **behaviour)
        return f"{self.url}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: the tests make clients hang up."""


class _Answer(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        self.server.asked.append({"path": self.path, **self.headers})
        file = self.server.files.get(self.path)
        if not file:
            self.send_error(404)
            return
        if file.refusals:
            status, headers = file.refusals.pop(0)
            self._head(status, {"Content-Length": "0", **headers})
            return
        whole, begin = file.content, 0
        headers = dict(file.headers)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in file.headers.values() or not file.if_range
        if asked and file.ranges and same:
            begin = int(asked[1])
            if begin >= len(whole):
                self._head(416, {"Content-Range": f"bytes */{len(whole)}", "Content-Length": "0"})
                return
            headers["Content-Range"] = f"bytes {begin}-{len(whole) - 1}/{len(whole)}"
        elif file.compress and "gzip" in self.headers.get("Accept-Encoding", ""):
            whole = gzip.compress(whole)
            headers["Content-Encoding"] = "gzip"
        body = whole[begin:]
        length = len(body) if file.length is None else file.length - begin
        self._head(206 if begin else 200, headers | {"Content-Length": str(length)})
        if file.stalls:
            at = file.stalls.pop(0)
            self.wfile.write(body[:at])
            self.server.go.wait()
            body = body[at:]
        self.wfile.write(body[: file.cuts.pop(0)] if file.cuts else body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    """Yield a server that publishes nothing yet."""
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()
