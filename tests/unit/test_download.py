"""A download ends with the whole file, whatever network, server and processes do to it, or with an error."""

import hashlib
import socket
import ssl
from pathlib import Path

import httpx
import pytest

from interlock.errors import HostError, ImageError
from interlock.host.locks import held
from interlock.images import download as download_module
from interlock.images import space
from interlock.images.download import Download, download
from interlock.images.source import Place
from interlock.images.store import Store

CONTENT = bytes(range(256)) * 2048
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
SHA512 = f"sha512:{hashlib.sha512(CONTENT).hexdigest()}"
TAG = {"ETag": '"1"'}
DATE = {"Last-Modified": "Wed, 01 Apr 2026 00:00:00 GMT"}
HALF = len(CONTENT) // 2


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """Return the pauses that were asked for; they take no time."""
    made = []
    monkeypatch.setattr(download_module.cancellation, "pause", made.append)
    return made


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "images")


@pytest.fixture
def said():
    return []


@pytest.fixture
def get(store, said):
    """Return a function that downloads a URL, as a new process would, and returns the content."""

    def get_file(url, digest=SHA256):
        place = Place(url, digest)
        into = Download.of(store, place)
        into.folder.mkdir(parents=True, exist_ok=True)
        found = download(place, into, said.append)
        assert digest in (None, found)
        return into.content.read_bytes()

    return get_file


def fails(get, *arguments):
    """Return the error of a download that must fail."""
    with pytest.raises(ImageError) as caught:
        get(*arguments)
    return caught.value


def ranges(publisher):
    return [request.get("Range") for request in publisher.asked]


@pytest.mark.parametrize("digest", [SHA256, SHA512, None])
def test_download_good_answer_is_the_file(publisher, get, digest):
    """The download equals the published file, byte for byte, with and without a digest."""
    assert get(publisher.publish("/a", CONTENT), digest) == CONTENT


def test_download_says_how_far_it_is(publisher, get, said):
    """A long download reports its progress and its size."""
    url = publisher.publish("/a", CONTENT * 20)
    get(url, None)
    assert (said[0], said[-1]) == (f"downloading {url}", f"downloading {url}: 100 % of 10 MiB")
    assert len(said) == 11


def test_download_redirect_is_followed(publisher, get):
    """Publishers redirect to mirrors."""
    publisher.publish("/there", CONTENT)
    assert get(publisher.publish("/here", b"", refusals=[(302, {"Location": "/there"})])) == CONTENT


def test_download_redirect_without_end_is_refused(publisher, get, pauses):
    """A loop of redirects is a mistake of the server's, which waiting does not fix."""
    url = publisher.publish("/a", b"", refusals=[(302, {"Location": "/a"})] * 50)
    assert "redirects" in fails(get, url).details[0]
    assert pauses == []


def test_download_asks_the_server_not_to_compress(publisher, get):
    """A digest is of the file as published, so the client asks for no compression."""
    assert get(publisher.publish("/a", CONTENT, compress=True)) == CONTENT


@pytest.mark.parametrize("headers", [TAG, DATE, TAG | DATE])
def test_download_interrupted_is_resumed(publisher, get, headers):
    """The part that has arrived is not sent again, as long as the server has the same file."""
    assert get(publisher.publish("/a", CONTENT, headers=headers, cuts=[HALF])) == CONTENT
    assert ranges(publisher) == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize(
    ("behaviour", "asked"),
    [
        ({"ranges": False, "headers": TAG}, f"bytes={HALF}-"),
        ({"headers": {}}, None),
        ({"headers": {"ETag": 'W/"1"'}}, None),
    ],
    ids=["no ranges", "nothing to know the file by", "a weak tag"],
)
def test_download_interrupted_that_cannot_be_resumed_starts_over(publisher, get, behaviour, asked):
    """If the rest cannot be requested, or may be of another file, the whole file is sent again."""
    assert get(publisher.publish("/a", CONTENT, cuts=[HALF], **behaviour)) == CONTENT
    assert ranges(publisher) == [None, asked]


def test_download_that_always_moves_is_not_given_up(publisher, get):
    """Only tries that bring no bytes count towards the limit."""
    cuts = [len(CONTENT) // 16] * 12
    assert get(publisher.publish("/a", CONTENT, headers=TAG, cuts=cuts)) == CONTENT


@pytest.mark.parametrize("if_range", [True, False])
def test_download_file_that_changed_since_starts_over(publisher, get, if_range):
    """No file is assembled from two versions: the server notices by If-Range, or we by the tag."""
    url = publisher.publish("/a", CONTENT[::-1], headers={"ETag": '"0"'}, cuts=[HALF, *[0] * 9])
    fails(get, url, None)
    publisher.publish("/a", CONTENT, headers=TAG, if_range=if_range)
    assert get(url, None) == CONTENT


def test_download_file_that_became_shorter_starts_over(publisher, get):
    """A range beyond the end means that the file has changed."""
    url = publisher.publish("/a", CONTENT * 4, headers=TAG, cuts=[2 * len(CONTENT), *[0] * 9])
    fails(get, url, None)
    publisher.publish("/a", CONTENT, headers=TAG)
    assert get(url, None) == CONTENT


def test_download_that_was_whole_when_we_died_asks_for_no_byte(publisher, get):
    """A process may die between the last byte of the download and the finished image."""
    url = publisher.publish("/a", CONTENT, headers=TAG)
    get(url)
    publisher.asked.clear()
    assert get(url) == CONTENT
    assert ranges(publisher) == [f"bytes={len(CONTENT)}-"]


def test_download_kept_part_that_is_damaged_starts_over(publisher, get, store, said):
    """A power cut may corrupt the partial file: the digest reveals that, and the whole file is fetched."""
    url = publisher.publish("/a", CONTENT, headers=TAG, cuts=[HALF, *[0] * 9])
    fails(get, url)
    Download.of(store, Place(url, SHA256)).content.write_bytes(bytes(HALF))
    publisher.publish("/a", CONTENT, headers=TAG)
    assert get(url) == CONTENT
    assert f"the partial download of {url} is corrupt; starting over" in said


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]"])
def test_download_kept_part_of_unknown_origin_starts_over(publisher, get, store, damaged):
    """Damaged validators never block a download."""
    url = publisher.publish("/a", CONTENT, headers=TAG, cuts=[HALF, *[0] * 9])
    fails(get, url)
    (Download.of(store, Place(url, SHA256)).folder / "validators.json").write_bytes(damaged)
    publisher.files["/a"].cuts.clear()
    publisher.asked.clear()
    assert get(url) == CONTENT
    assert ranges(publisher) == [None]


def test_download_other_digest_is_refused_with_both_and_not_kept(publisher, get, store):
    """A file that is not the publisher's is not kept to be resumed."""
    wrong = f"sha256:{'0' * 64}"
    error = fails(get, publisher.publish("/a", CONTENT), wrong)
    assert error.details == (f"expected {wrong}", f"found    {SHA256}")
    assert list(store.downloads.iterdir()) == []


@pytest.mark.parametrize("too_long", [1, 4096])
def test_download_shorter_than_promised_is_refused(publisher, get, too_long):
    """A truncated file is noticed, even without a digest."""
    url = publisher.publish("/a", CONTENT, headers=TAG, length=len(CONTENT) + too_long)
    assert url in fails(get, url, None).message


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_download_busy_server_is_asked_again(publisher, get, pauses, said, status):
    """A temporary failure is reported, and retried after longer and longer pauses."""
    assert get(publisher.publish("/a", CONTENT, refusals=[(status, {}), (status, {})])) == CONTENT
    assert pauses == list(download_module.PAUSES_S[:2])
    assert str(status) in said[0]


@pytest.mark.parametrize(
    ("value", "pause"), [("7", 7), ("86400", download_module.LONGEST_PAUSE_S), ("soon", 1), ("-1", 1)]
)
def test_download_busy_server_says_when_to_come_again(publisher, get, pauses, value, pause):
    """Retry-After is honoured, up to a limit."""
    get(publisher.publish("/a", CONTENT, refusals=[(503, {"Retry-After": value})]))
    assert pauses == [pause]


def test_download_busy_server_says_a_date(publisher, get, pauses):
    """Retry-After may be a date; one in the past is ignored."""
    get(publisher.publish("/a", CONTENT, refusals=[(503, {"Retry-After": "Wed, 01 Apr 2026 00:00:00 GMT"})]))
    assert pauses == [download_module.PAUSES_S[0]]


def test_download_server_that_stays_busy_is_given_up(publisher, get, pauses):
    """The number of tries is limited."""
    error = fails(get, publisher.publish("/a", CONTENT, refusals=[(503, {})] * 99))
    assert error.details == ("the server answered 503 Service Unavailable",)
    assert pauses == list(download_module.PAUSES_S)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_download_refusal_is_not_asked_again(publisher, get, pauses, status):
    """A file that the server refuses now will be refused in a second, too."""
    assert str(status) in fails(get, publisher.publish("/a", CONTENT, refusals=[(status, {})])).details[0]
    assert (len(publisher.asked), pauses) == (1, [])


def test_download_nobody_listening_is_refused_at_once(get, pauses):
    """A closed port will be closed in a second, too; the error is one line, not a traceback of a library's."""
    assert "refused" in fails(get, "http://127.0.0.1:1/a").details[0].lower()
    assert pauses == []


@pytest.mark.parametrize(
    ("cause", "tries"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), 1),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), 1 + len(download_module.PAUSES_S)),
        (ssl.SSLCertVerificationError("self-signed certificate"), 1),
        (TimeoutError("timed out"), 1 + len(download_module.PAUSES_S)),
    ],
)
def test_download_without_a_connection_is_tried_again_where_that_may_pass(get, pauses, monkeypatch, cause, tries):
    """An unknown name and a bad certificate are permanent; an overloaded name server or a lost packet is not."""
    asked = []

    def connect(*_):
        asked.append(1)
        raise httpx.ConnectError(str(cause)) from cause

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", connect)
    assert str(cause) in fails(get, "http://example.org/a").details[0]
    assert (len(asked), len(pauses)) == (tries, tries - 1)


def test_download_from_server_that_comes_back_is_resumed(publisher, get, pauses, monkeypatch):
    """A server that has sent a part of the file and now refuses is probably being restarted."""
    url = publisher.publish("/a", CONTENT, headers=TAG, cuts=[HALF])
    send, refused = httpx.HTTPTransport.handle_request, [False, True, False]

    def connect(self, request):
        if refused.pop(0):
            raise httpx.ConnectError("refused") from ConnectionRefusedError(111, "Connection refused")
        return send(self, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", connect)
    assert get(url) == CONTENT
    assert len(pauses) == 2


def test_download_from_server_that_stalls_is_cut_and_resumed(publisher, get, monkeypatch):
    """A connection that delivers nothing is dropped after a timeout."""
    monkeypatch.setattr(download_module, "TIMEOUT_S", 1.0)
    assert get(publisher.publish("/a", CONTENT, headers=TAG, stalls=[HALF])) == CONTENT
    assert ranges(publisher) == [None, f"bytes={HALF}-"]


def test_download_larger_than_the_room_is_refused_before_a_byte(publisher, get, store, monkeypatch):
    """The error comes before the disk is full, with a hint that helps."""
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: type("Usage", (), {"free": HALF}))
    url = publisher.publish("/a", CONTENT, headers=TAG)
    with pytest.raises(HostError, match="needs") as caught:
        get(url)
    assert caught.value.hint == "interlock prune"
    assert Download.of(store, Place(url, SHA256)).size_bytes == 0


def test_download_goes_through_the_proxy_of_the_environment(publisher, get, monkeypatch):
    """Company networks have a proxy, which programs find in the environment."""
    monkeypatch.setenv("HTTP_PROXY", publisher.url)
    monkeypatch.setenv("NO_PROXY", "")
    publisher.publish("http://images.invalid/a", CONTENT)
    assert get("http://images.invalid/a") == CONTENT


@pytest.mark.parametrize(("variable", "value"), [("HTTPS_PROXY", "carrier://pigeon"), ("SSL_CERT_FILE", "/dev/null")])
def test_download_with_an_impossible_environment_is_the_hosts_fault(publisher, get, monkeypatch, variable, value):
    """No mirror would help, so the error names the variable."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(HostError) as caught:
        get(publisher.publish("/a", CONTENT))
    assert variable in caught.value.message


def test_download_of_a_url_with_a_password_does_not_show_it(publisher, get, said, store):
    """Others may read messages and stored files, so they hold no password."""
    url = publisher.publish("/a", CONTENT, headers=TAG).replace("//", "//anna:secret@")
    get(url)
    kept = b"".join(path.read_bytes() for path in store.downloads.rglob("*.json"))
    assert "secret" not in " ".join(said) + kept.decode()
    assert publisher.asked[0]["Authorization"].startswith("Basic ")


def test_remove_leaves_what_the_next_holder_makes(store, monkeypatch):
    """A process that waits for the lock gets it, with a new folder, before the old files are all removed."""
    place = Place("http://here/a", SHA256)
    one = Download.of(store, place)
    one.folder.mkdir(parents=True)
    one.content.write_bytes(CONTENT)
    whole = Path.unlink

    def next_comes(path, **named):
        whole(path, **named)
        if path.name == "content" and path.parent != one.folder:
            with held(one.folder / "lock", None):
                one.begin("here", {}, None)

    monkeypatch.setattr(Path, "unlink", next_comes)
    one.remove()
    assert one.location == "here"
    assert [*store.downloads.iterdir()] == [one.folder]
