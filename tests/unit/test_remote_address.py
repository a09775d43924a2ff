"""Which host `--host` means: addresses, and the names in hosts.yaml."""

import pytest

from interlock.errors import NotFoundError, UsageError
from interlock.remote.address import Host, find, named


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """Return a function that writes hosts.yaml."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "interlock").mkdir()
    return (tmp_path / "interlock" / "hosts.yaml").write_text


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ssh://build", Host("ssh://build", "build")),
        ("ssh://me@build.example.org:2222", Host("ssh://me@build.example.org:2222", "build.example.org", "me", 2222)),
        ("ssh://build/srv/my%20vms", Host("ssh://build/srv/my%20vms", "build", home="/srv/my vms")),
        ("ssh://[fe80::1%25eth0]:22/", Host("ssh://[fe80::1%25eth0]:22/", "fe80::1%eth0", port=22)),
    ],
)
def test_address_is_understood(url, host):
    """A path names the home on that host; a bare slash does not."""
    assert find(url) == host


@pytest.mark.parametrize(
    "url",
    ["http://build", "ssh://", "ssh://-oProxyCommand=true", "ssh://-x@build", "ssh://build:0", "ssh://build:ssh",
     "ssh://build?x", "ssh://build/a%00b", "ssh://bu ild", "ssh://[::1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url):
    """Above all, nothing is accepted that ssh would read as an option."""
    with pytest.raises(UsageError):
        find(url)


def test_password_in_an_address_is_refused_and_not_repeated():
    """Messages may end up in logs."""
    with pytest.raises(UsageError) as refused:
        find("ssh://me:secret@build")
    assert "secret" not in refused.value.message


@pytest.mark.parametrize("text", ["", "local"])
def test_this_machine_can_be_named(text):
    """This overrides an INTERLOCK_HOST that names another host."""
    assert find(text) is None


def test_names_are_those_of_the_file(hosts):
    """Names keep the order of the file; an entry is an address, or a mapping with the path of the program."""
    hosts("build: ssh://me@build\nlab:\n  url: ssh://lab:2222\n  program: /opt/interlock\n")
    assert list(named().values()) == [
        Host("build", "build", "me"),
        Host("lab", "lab", port=2222, program="/opt/interlock"),
    ]
    assert find("lab").program == "/opt/interlock"


@pytest.mark.parametrize(
    ("text", "hint"), [("me@lab", "interlock --host ssh://me@lab list"), ("a b", "interlock --host")]
)
def test_unknown_name_is_refused_with_what_to_type(hosts, text, hint):
    """If the text looks like an address without `ssh://`, the hint adds that."""
    hosts("")
    with pytest.raises(NotFoundError) as refused:
        find(text)
    assert refused.value.hint.startswith(hint)


@pytest.mark.parametrize(
    "text",
    ["- build", "build: 1", "build: {url: 'http://x'}", "build: {program: x}", "local: ssh://x", "a b: ssh://x",
     "build: {url: 'ssh://x', key: y}", "build: {url: 'ssh://x', program: -x}", "build: [", "build: \x00"],
)  # fmt: skip
def test_mistake_in_the_file_is_said_with_its_place(hosts, text):
    """The error names the file; there is no traceback."""
    hosts(text)
    with pytest.raises(UsageError, match=r"hosts\.yaml"):
        named()
