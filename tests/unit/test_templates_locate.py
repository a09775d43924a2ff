"""A locator means the same everywhere; its target is read within limits, or an error gives the reason."""

import hashlib
import io
import platform
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from interlock.errors import InvalidTemplateError, NotFoundError, UsageError
from interlock.templates.load import Source, load, parse
from interlock.templates.locate import MAX_BYTES, absolute, find, instance_name, public

GOOD = b"images:\n- location: build:tiny\n  arch: x86_64\n"
SCRIPT = b"#!/bin/sh\necho hello\n"
PAGES = {
    "/web.yaml": GOOD,
    "/t/web.yaml": b"base: ../../secret.yaml\n",
    "/t/good.yaml": b"base: [sub/base.yaml, 'template:tiny']\nprovision: [{file: hello.sh}]\n",
    "/t/sub/base.yaml": b"base: more.yaml\n",
    "/t/sub/more.yaml": b"cpus: 7\n",
    "/t/hello.sh": SCRIPT,
    "/t/thief.yaml": GOOD + b"provision: [{file: /etc/hostname}]\n",
    "/t/tilde.yaml": GOOD + b"base: ~/x.yaml\n",
    "/t/url.yaml": GOOD + b"base: file:///x.yaml\n",
    "/t/gone.yaml": GOOD + b"base: gone/base.yaml\n",
    "/large.yaml": b"#" * (MAX_BYTES + 1),
}


class Server(BaseHTTPRequestHandler):
    """Serves PAGES; `/moved` redirects to one, `/round` to itself, `/short` hangs up early, `/long` is far too long."""

    hung_up = threading.Event()
    """Set when a client hangs up before the end of `/long`."""

    def do_GET(self):
        if self.path == "/long":
            self._go_on()
            return
        moved = {"/moved": "/web.yaml", "/round": "/round"}.get(self.path)
        body = PAGES["/web.yaml"] if self.path == "/short" else PAGES.get(self.path.partition("?")[0])
        if moved:
            self.send_response(302)
            self.send_header("Location", moved)
            self.end_headers()
        elif body is None:
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if self.path == "/short" else body)

    def _go_on(self):
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(64):
                self.wfile.write(b"#" * MAX_BYTES)
        except OSError:
            self.hung_up.set()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """Yield the address of a server on the loopback interface."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Change to an empty folder, which is also the user's home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("locator", "expected"),
    [
        ("debian", "template:debian"),
        ("template:debian", "template:debian"),
        ("template://debian", "template:debian"),
        ("template:debian.yaml", "template:debian"),
        ("template:_images/debian", "template:_images/debian"),
        ("-", "-"),
        ("web.yaml", "{}/web.yaml"),
        ("web.yml", "{}/web.yml"),
        ("./web", "{}/web"),
        ("sub/../web.yaml", "{}/web.yaml"),
        ("/srv/web.yaml", "/srv/web.yaml"),
        ("~/web.yaml", "{}/web.yaml"),
        ("file:///srv/a%20b.yaml", "/srv/a b.yaml"),
        ("file:/srv/web.yaml", "/srv/web.yaml"),
        ("https://example.org/web.yaml", "https://example.org/web.yaml"),
        ("x.qcow2", "{}/x.qcow2"),
    ],
)
def test_absolute_of_the_command_line(folder, locator, expected):
    """A bare word is a built-in; a locator with a slash or a suffix is a path relative to the working folder."""
    assert expected.format(folder) == absolute(locator)


@pytest.mark.parametrize(
    ("locator", "beside", "expected"),
    [
        ("base.yaml", "/srv/web.yaml", "/srv/base.yaml"),
        ("./sub/base.yaml", "/srv/web.yaml", "/srv/sub/base.yaml"),
        ("base", "/srv/web.yaml", "/srv/base"),
        ("/x/base.yaml", "/srv/web.yaml", "/x/base.yaml"),
        ("template:debian", "/srv/web.yaml", "template:debian"),
        ("http://example.org/x", "/srv/web.yaml", "http://example.org/x"),
        ("base.yaml", "https://example.org/a/web.yaml?x=1", "https://example.org/a/base.yaml"),
        ("sub/base.yaml", "https://example.org/web.yaml", "https://example.org/sub/base.yaml"),
        ("template:debian", "https://example.org/web.yaml", "template:debian"),
        ("_images/ubuntu", "template:ubuntu", "template:_images/ubuntu"),
        ("ubuntu.yaml", "template:_images/ubuntu-lts", "template:_images/ubuntu"),
        ("template:debian", "-", "template:debian"),
        ("/x/base.yaml", "-", "/x/base.yaml"),
    ],
)
def test_absolute_of_a_template_lies_beside_it(locator, beside, expected):
    """A relative locator is relative to the template that names it: a file, a URL or a built-in."""
    assert expected == absolute(locator, beside)


@pytest.mark.parametrize(
    ("locator", "beside", "words"),
    [
        ("../x.yaml", "/srv/a/web.yaml", "cannot leave its template's folder"),
        ("a/../../x.yaml", "https://example.org/a/web.yaml", "cannot leave its template's folder"),
        ("../x", "template:_images/debian", "cannot leave its template's folder"),
        ("base.yaml", "-", "a template that is not a file has no folder"),
        ("/etc/passwd", "http://example.org/web.yaml", "a template from a server cannot name files of this host"),
        ("~/.ssh/id", "https://example.org/web.yaml", "a template from a server cannot name files of this host"),
        ("file:///etc/passwd", "https://example.org/x", "a template from a server cannot name files of this host"),
        ("github:lima-vm/lima", None, "locators by github: are not supported yet"),
        ("file:web.yaml", None, "a file: URL needs an absolute path"),
        ("file://server/web.yaml", None, "a file: URL needs an absolute path"),
    ],
)
def test_absolute_of_what_must_not_be_named_is_refused(locator, beside, words):
    """Relative locators cannot leave the template's folder, and a template from a server cannot name local files."""
    with pytest.raises(InvalidTemplateError, match=words):
        absolute(locator, beside)


def test_find_reads_a_file_of_any_spelling(folder):
    """A path, a tilde and a URL lead to the same file; messages call it by its path from the working folder."""
    (folder / "a b.yaml").write_bytes(GOOD)
    found = [find(locator) for locator in ("./a b.yaml", "~/a b.yaml", f"file://{folder}/a%20b.yaml")]
    assert [(source.name, source.text) for source in found] == [("a b.yaml", GOOD)] * 3


def test_find_dash_is_standard_input(monkeypatch):
    """A template can be read from a pipe."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(GOOD)))
    assert find("-") == Source("<standard input>", GOOD, "-")


@pytest.mark.parametrize(
    ("locator", "words"),
    [
        ("debain", 'no built-in template "debain"; did you mean "debian"'),
        ("ubuntu-20.04", 'did you mean "ubuntu-2'),
        ("zzz", 'no built-in template "zzz"'),
        ("template:../builtin/debian", 'no built-in template "../builtin/debian"'),
        ("template:/etc/passwd", "no built-in template"),
        ("template:", "no built-in template"),
        ("./no.yaml", "there is no file no.yaml"),
        ("~nobody-of-this-name/x.yaml", "there is no file"),
    ],
)
def test_find_nothing_says_what_there_is(folder, locator, words):
    """The error for an unknown built-in proposes a similar name, if there is one."""
    assert folder.is_dir()
    with pytest.raises(NotFoundError, match=words):
        find(locator)


def test_find_folder_is_an_invalid_template(tmp_path):
    """A path that is not a readable file is refused with the system's reason."""
    with pytest.raises(InvalidTemplateError, match="Is a directory"):
        find(f"{tmp_path}/")


def test_find_larger_file_than_people_write_is_refused(tmp_path):
    """A disk image that is given by mistake is not parsed."""
    (tmp_path / "t.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(InvalidTemplateError, match="larger than 1 MiB"):
        find(str(tmp_path / "t.yaml"))


def test_find_url_is_fetched(server):
    """A template is fetched from a URL, also after a redirect."""
    assert [find(server + page).text for page in ("/web.yaml", "/moved", "/web.yaml?version=2")] == [GOOD] * 3


def test_load_url_reads_what_lies_beside_it(server):
    """Bases and scripts are fetched relative to the template's URL, and bases of bases relative to theirs."""
    template = load(f"{server}/t/good.yaml").template
    assert (template.cpus, template.provision[0].script) == (7, SCRIPT.decode())


def test_load_url_with_a_digest_is_checked(server):
    """A base with a digest is used only if its content matches."""
    for page, ok in (("/web.yaml", True), ("/t/sub/more.yaml", False)):
        digest = hashlib.sha256(PAGES["/web.yaml"]).hexdigest()
        text = f"base:\n- url: {server}{page}\n  digest: sha256:{digest}\n".encode()
        if ok:
            assert parse(Source("t", text)).template.images
        else:
            with pytest.raises(InvalidTemplateError, match=r"t:2:3: base\[0\]: .* is not what was asked for"):
                parse(Source("t", text))


@pytest.mark.parametrize(
    ("page", "kind", "words"),
    [
        ("/gone.yaml", NotFoundError, "cannot read {}/gone.yaml: the server answered 404 Not Found"),
        ("/round", NotFoundError, "cannot read {}/round: Exceeded maximum allowed redirects."),
        ("/short", NotFoundError, "cannot read {}/short: peer closed connection without sending complete message body"),
        ("/large.yaml", InvalidTemplateError, "{}/large.yaml: larger than 1 MiB, so not a template"),
        ("/t/web.yaml", InvalidTemplateError, "{}/t/web.yaml:1:7: base: ../../secret.yaml: a relative locator"),
        ("/t/thief.yaml", InvalidTemplateError, "{}/t/thief.yaml:4:20: provision[0].file: /etc/hostname: a template"),
        ("/t/tilde.yaml", InvalidTemplateError, "{}/t/tilde.yaml:4:7: base: ~/x.yaml: a template from a server"),
        ("/t/url.yaml", InvalidTemplateError, "{}/t/url.yaml:4:7: base: file:///x.yaml: a template from a server"),
        ("/t/gone.yaml", NotFoundError, "{0}/t/gone.yaml:4:7: base: cannot read {0}/t/gone/base.yaml: the server"),
    ],
)
def test_load_url_that_fails_tells_the_cause(server, page, kind, words):
    """A server's error and a forbidden locator are reported with the URL and the place."""
    with pytest.raises(kind) as caught:
        load(server + page)
    assert caught.value.message.startswith(words.format(server))


def test_find_url_of_more_than_a_template_is_not_read_to_its_end(server, until):
    """The connection is closed once the limit is reached."""
    Server.hung_up.clear()
    with pytest.raises(InvalidTemplateError, match="larger than 1 MiB"):
        find(f"{server}/long")
    until(Server.hung_up.is_set)


def test_find_url_of_nobody_tells_the_cause():
    """The error has the URL and the system's reason."""
    with pytest.raises(NotFoundError, match=r"cannot read http://127\.0\.0\.1:1/x: .*refused"):
        find("http://127.0.0.1:1/x")


@pytest.mark.parametrize(
    ("locator", "arch"),
    [
        ("https://example.org/debian-13-genericcloud-arm64.qcow2", "aarch64"),
        ("https://example.org/Rocky-10-Base.x86_64.qcow2?download=1", "x86_64"),
        ("/srv/alpine_arm64_x.raw.gz", "aarch64"),
        ("/srv/x.aarch64.img.xz", "aarch64"),
        ("/srv/x.qcow2", platform.machine()),
    ],
)
def test_load_image_is_a_template_of_nothing_else(locator, arch):
    """The locator of an image counts as a template, with the architecture in its name or else this host's."""
    template = load(locator).template
    assert [(image.location, image.arch) for image in template.images] == [(locator, arch)]
    assert template.arch == arch


def test_load_image_for_a_machine_that_cannot_be_made_is_refused():
    """An architecture in the name counts even if it is not supported yet."""
    with pytest.raises(InvalidTemplateError) as caught:
        load("https://example.org/x-riscv64.qcow2")
    (detail,) = caught.value.details
    assert detail.split(": ", 1)[1] == "arch: not supported yet, found 'riscv64'; write x86_64 or aarch64"


@pytest.mark.parametrize(
    ("locator", "expected"),
    [
        ("debian", "debian"),
        ("template:_images/debian-13", "debian-13"),
        ("./sub/Web.yaml", "web"),
        ("web.2.yml", "web.2"),
        ("https://example.org/a/web.yaml?x=1", "web"),
        ("file:///srv/web.yaml", "web"),
        ("https://example.org/debian-13-genericcloud-amd64-20260712-2537.qcow2", "debian-13"),
        ("https://example.org/ubuntu-26.04-server-cloudimg-amd64.img", "ubuntu-26.04"),
        ("https://example.org/Rocky-10-GenericCloud-Base-10.2-20260525.0.x86_64.qcow2", "rocky-10.2"),
        ("https://example.org/nocloud_alpine-3.23.4-x86_64-uefi-cloudinit-r0.qcow2", "alpine-3.23.4-r0"),
        ("https://example.org/Arch-Linux-x86_64-cloudimg.qcow2", "archlinux"),
        ("https://example.org/Fedora-Cloud-Base-Generic-44-1.7.x86_64.qcow2", "fedora-44-1.7"),
        ("./x.raw.zst", "x"),
    ],
)
def test_instance_name_is_the_templates_or_the_images(monkeypatch, locator, expected):
    """Without a given name, the instance gets a short form of the template's or the image's name."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert expected == instance_name(locator)


@pytest.mark.parametrize("locator", ["-", "./.yaml", "https://example.org/", "template:"])
def test_instance_name_of_the_nameless_has_to_be_given(locator):
    """Without a name, the error says which command to type."""
    with pytest.raises(UsageError, match="needs a name") as caught:
        instance_name(locator)
    assert caught.value.hint == f"interlock create web -t {locator}"


@pytest.mark.parametrize(
    ("locator", "shown"),
    [
        ("https://me:s3cret@example.org/web.yaml?token=s3cret", "https://…@example.org/web.yaml?…"),
        ("https://example.org/a@b.yaml", "https://example.org/a@b.yaml"),
        ("./web.yaml?x", "./web.yaml?x"),
        ("template:debian", "template:debian"),
    ],
)
def test_public_locator_holds_no_password(locator, shown):
    """Messages and records do not contain passwords or tokens of a URL."""
    assert public(locator) == shown


def test_find_of_a_url_with_a_password_names_it_without():
    """The error does not repeat the password."""
    with pytest.raises(NotFoundError, match=r"cannot read http://…@127\.0\.0\.1:1/x\?…: "):
        find("http://me:s3cret@127.0.0.1:1/x?token=s3cret")
