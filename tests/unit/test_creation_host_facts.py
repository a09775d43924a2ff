"""Facts of the host that a new guest takes over, in a form that the guest can use."""

import getpass
import os

import pytest

from interlock.creation import host_facts
from interlock.errors import UsageError


@pytest.fixture
def bare(monkeypatch):
    """Remove the proxies of the user who runs the tests from the environment."""
    for name in ("ftp_proxy", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("uid", "login", "expected"), [(1000, "anna", "anna"), (0, "root", "interlock"), (1000, "Anna B", "interlock")]
)
def test_user_that_cannot_be_a_login_is_replaced(monkeypatch, uid, login, expected):
    """The guest's login is the host's, unless that is root or not accepted by guests."""
    monkeypatch.setattr(getpass, "getuser", lambda: login)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert expected == host_facts.user()


def test_user_of_a_uid_without_a_name_is_replaced(monkeypatch):
    """A container's user may have no name at all."""

    def unknown():
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert host_facts.user() == "interlock"


@pytest.mark.parametrize(("euid", "expected"), [(501, 501), (0, 1000)])
def test_uid_is_the_hosts_except_roots(monkeypatch, euid, expected):
    """Files in a mount have the same uid on both sides; the guest of root has an ordinary user."""
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    assert expected == host_facts.uid()


@pytest.fixture
def etc(tmp_path, monkeypatch):
    """Return an /etc next to a time zone database, which has one zone and a file that is not a zone."""
    zones = tmp_path / "zoneinfo"
    (zones / "Europe").mkdir(parents=True)
    (zones / "Europe/Paris").write_bytes(b"TZif2 paris")
    (zones / "tzdata.zi").write_bytes(b"# version 2026a")
    monkeypatch.setattr(host_facts, "ZONES", zones)
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc"


def test_timezone_is_where_localtime_leads(etc):
    """Systems with systemd keep the name of the zone in a link."""
    (etc / "localtime").symlink_to(host_facts.ZONES / "Europe/Paris")
    assert host_facts.timezone(etc) == "Europe/Paris"


def test_timezone_without_a_link_is_what_the_file_says(etc):
    """Debian also keeps the name in a file."""
    (etc / "localtime").write_bytes(b"TZif2 a copy")
    (etc / "timezone").write_text("Asia/Tokyo\n")
    assert host_facts.timezone(etc) == "Asia/Tokyo"


def test_timezone_that_nothing_tells_is_empty(etc):
    """The guest then keeps its own time zone."""
    assert host_facts.timezone(etc) == ""


def test_zone_is_the_databases_file(etc):  # noqa: ARG001
    """A guest without a database gets the one zone that it needs."""
    assert host_facts.zone("Europe/Paris") == b"TZif2 paris"


@pytest.mark.parametrize("name", ["Europe/Pari", "../etc/passwd", "/etc/passwd", "tzdata.zi", "Europe", "a\nb", ""])
def test_zone_of_any_other_name_is_refused(etc, name):  # noqa: ARG001
    """A typo is an error of `create`, and no name leads out of the database."""
    with pytest.raises(UsageError, match="timezone: "):
        host_facts.zone(name)


def test_zone_on_a_host_without_a_database_is_left_to_the_guest(monkeypatch, tmp_path):
    """Without a database, the host cannot tell a typo from a zone."""
    monkeypatch.setattr(host_facts, "ZONES", tmp_path / "none")
    assert host_facts.zone("Europe/Paris") == b""


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("http://127.0.0.1:3128", "http://10.0.2.2:3128"),
        ("http://me:secret@localhost:3128/", "http://me:secret@10.0.2.2:3128/"),
        ("localhost:3128", "http://10.0.2.2:3128"),
        ("http://[::1]:3128", "http://10.0.2.2:3128"),
        ("http://localhost:port", "http://localhost:port"),
    ],
)
def test_environment_proxy_is_as_the_guest_reaches_it(bare, proxy, expected):
    """The host's loopback is not the guest's; both spellings of the name are set."""
    bare.setenv("HTTPS_PROXY", proxy)
    assert host_facts.environment({}, proxies=True) == {"https_proxy": expected, "HTTPS_PROXY": expected}


def test_environment_without_propagation_has_no_proxy(bare):
    """`propagateProxyEnv: false` keeps the host's proxies out of the guest."""
    bare.setenv("http_proxy", "http://proxy.example:3128")
    assert host_facts.environment({"A": "b"}, proxies=False) == {"A": "b"}


def test_environment_asked_for_overrules_the_hosts(bare):
    """The template's variables override the host's, and its proxies get both spellings too."""
    bare.setenv("http_proxy", "http://proxy.example:3128")
    bare.setenv("no_proxy", "localhost")
    assert host_facts.environment({"http_proxy": "http://127.0.0.1:1", "A": "b"}, proxies=True) == {
        "http_proxy": "http://127.0.0.1:1",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "no_proxy": "localhost",
        "NO_PROXY": "localhost",
        "A": "b",
    }


def test_proxy_that_is_switched_off_is_off_in_both_cases(bare):
    """An empty value of the template means no proxy: this process's own does not come back under the other name."""
    bare.setenv("http_proxy", "http://proxy.example:3128")
    assert host_facts.environment({"HTTP_PROXY": ""}, proxies=True) == {"HTTP_PROXY": ""}


def test_public_keys_are_the_lines_of_all_files(tmp_path):
    """The keys are in the order of the files' names, without comments and blank lines."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_b.pub").write_text("# mine\nssh-ed25519 BBBB b\n\n")
    (tmp_path / ".ssh/id_a.pub").write_text("ssh-rsa AAAA a\n")
    (tmp_path / ".ssh/id_a").write_text("PRIVATE")
    assert host_facts.public_keys(tmp_path) == ("ssh-rsa AAAA a", "ssh-ed25519 BBBB b")
