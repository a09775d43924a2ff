import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from interlock.fsm.errors import ImageError
from interlock.images.fetch import fetch
from interlock.images.store import Store

DISK = b"QFI\xfb" + bytes(range(256)) * 4096
SHA256 = f"sha256:{hashlib.sha256(DISK).hexdigest()}"


class Publisher(BaseHTTPRequestHandler):
    """Serves DISK; `/short` promises all of it and hangs up half-way, `/page` is something else."""

    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/disk.qcow2")
            self.end_headers()
            return
        body = b"<html>" if self.path == "/page" else DISK
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/short" else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def publisher():
    """Yield the address of a server on the loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Publisher) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "images")


@pytest.fixture
def said():
    return []


def refused(store, url, digest=SHA256):
    """Return the error of a fetch that must fail, after looking that it left nothing."""
    with pytest.raises(ImageError) as caught:
        fetch(store, "jammy", "x86_64", url, digest, lambda _: None)
    assert store.list() == ()
    assert list((store.directory / "work").iterdir()) == []
    return caught.value


@pytest.mark.parametrize("path", ["/disk.qcow2", "/moved"])
@pytest.mark.parametrize("digest", [SHA256, f"sha512:{hashlib.sha512(DISK).hexdigest()}", None])
def test_fetch_good_download_is_an_image(store, publisher, path, digest):
    """What has the publisher's digest is kept, byte for byte, as an image that boots like any cloud image."""
    image = fetch(store, "jammy", "x86_64", publisher + path, digest, lambda _: None)
    assert store.get("jammy", "x86_64") == image
    assert store.path(image.files["disk"].digest).read_bytes() == DISK
    assert (image.boot, image.first_boot, image.origin) == (("firmware",), ("nocloud",), publisher + path)


def test_fetch_second_time_downloads_nothing(store, publisher, said):
    """What is in the store is not fetched again."""
    first = fetch(store, "jammy", "x86_64", f"{publisher}/disk.qcow2", SHA256, lambda _: None)
    assert fetch(store, "jammy", "x86_64", f"{publisher}/missing", SHA256, said.append) == first
    assert said == []


def test_fetch_says_how_far_it_is(store, publisher, said):
    """A long download is seen to move."""
    fetch(store, "jammy", "x86_64", f"{publisher}/disk.qcow2", SHA256, said.append)
    assert said[0] == f"downloading {publisher}/disk.qcow2"
    assert said[-1] == f"downloading {publisher}/disk.qcow2: 100 %"


def test_fetch_other_digest_is_refused_with_both(store, publisher):
    """What is not what the publisher made never becomes an image."""
    wrong = f"sha256:{'0' * 64}"
    assert refused(store, f"{publisher}/disk.qcow2", wrong).details == (f"expected {wrong}", f"found    {SHA256}")


@pytest.mark.parametrize(
    ("path", "cause"), [("/short", "peer closed connection"), ("/missing", "404"), ("/page", None)]
)
def test_fetch_bad_answer_is_refused_with_its_cause(store, publisher, path, cause):
    """Cut short, not there, or no disk: the error says which, also when no digest would have told."""
    error = refused(store, publisher + path, None)
    assert publisher + path in error.message
    assert cause is None or cause in error.details[0]


def test_fetch_nobody_listening_is_refused_with_its_cause(store):
    """No network is an error of one line, not a traceback of a library's."""
    assert "refused" in refused(store, "http://127.0.0.1:1/disk.qcow2").details[0].lower()


@pytest.mark.parametrize("digest", ["md5:00", "sha256", "sha256:XYZ"])
def test_fetch_impossible_digest_is_refused(store, publisher, digest):
    """A digest that could never match is a mistake to be told of, not to be ignored."""
    assert "is not a digest" in refused(store, f"{publisher}/disk.qcow2", digest).message


def test_fetch_file_url_takes_a_local_image(store, tmp_path):
    """A disk that is on this host already is taken in, and its source may go."""
    (tmp_path / "my disk.qcow2").write_bytes(DISK)
    url = (tmp_path / "my disk.qcow2").as_uri()
    image = fetch(store, "mine", "x86_64", url, None, lambda _: None)
    (tmp_path / "my disk.qcow2").unlink()
    assert store.path(image.files["disk"].digest).read_bytes() == DISK


def test_fetch_file_url_of_nothing_is_refused(store, tmp_path):
    """The error names the file."""
    assert "No such file" in refused(store, (tmp_path / "none").as_uri()).message
