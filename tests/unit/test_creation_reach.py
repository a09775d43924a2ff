"""What a machine reaches on this host: the host's own paths, and the server whose template asks for them."""

from pathlib import Path

import pytest

from interlock.creation.plan import Wishes, check, plan
from interlock.creation.reach import Reach
from interlock.drivers.simulated import SimulatedDriver
from interlock.errors import UntrustedTemplateError
from interlock.host.home import Home
from interlock.templates.load import Source, parse

URL = "https://example.org/web.yaml"
IMAGE = "images: [{location: 'build:tiny'}]\n"


@pytest.fixture
def reached(home, monkeypatch):
    """Return a function that returns what a template's machine reaches; by default the template is from a server."""
    monkeypatch.setenv("HOME", "/home/anna")

    def tell(text, name=URL, edits=()):
        loaded = parse(Source(name, (IMAGE + text).encode()), edits=edits)
        return check(home, "web", loaded, SimulatedDriver(), Wishes(arch="x86_64"))

    return tell


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("mounts: [{location: /srv}]", "mounts[0]", "the guest reads /srv"),
        ("mounts: [{location: '{{.Home}}', writable: true}]", "mounts[0]", "the guest reads and writes /home/anna"),
        ("mounts: [{location: '~'}]", "mounts[0]", "the guest reads /home/anna"),
        (
            "copyToHost: [{guest: /x, host: '{{.Home}}/.bashrc'}]",
            "copyToHost[0]",
            "writes /home/anna/.bashrc from the guest",
        ),
        (
            "copyToHost: [{guest: /x, host: /srv/x, deleteOnStop: true}]",
            "copyToHost[0]",
            "writes /srv/x from the guest, and removes it when the guest stops",
        ),
        (
            "networks: [{lima: user-v2}]",
            "networks[0]",
            "the guest reaches the guests of your other instances on this network",
        ),
        ("portForwards: [{guestPort: 80, hostIP: 0.0.0.0}]", "portForwards[0]", "0.0.0.0:80 → 80"),
        (
            "portForwards: [{guestSocket: /x, hostSocket: '{{.Home}}/x.sock'}]",
            "portForwards[0]",
            "/home/anna/x.sock → /x",
        ),
        (
            "portForwards: [{guestSocket: /x, hostSocket: /run/docker.sock, reverse: true}]",
            "portForwards[0]",
            "the guest connects to this host's /run/docker.sock",
        ),
        (
            "plain: true\nportForwards: [{guestPort: 1}, {guestPort: 2, static: true, hostIP: 0.0.0.0}]",
            "portForwards[1]",
            "0.0.0.0:2 → 2",
        ),
        (
            "ssh: {loadDotSSHPubKeys: true}",
            "ssh.loadDotSSHPubKeys",
            "the guest gets the public keys in ~/.ssh and admits their owners",
        ),
        (
            "ssh: {forwardAgent: true}",
            "ssh.forwardAgent",
            "while you are logged in, the guest may use the keys of your ssh agent",
        ),
        ("ssh: {forwardX11: true}", "ssh.forwardX11", "while you are logged in, the guest may use your display"),
        (
            "ssh: {forwardX11: true, forwardX11Trusted: true}",
            "ssh.forwardX11",
            "while you are logged in, the guest may use your display, without X11's limits",
        ),
    ],
)
def test_reach_is_said_and_needs_a_yes(reached, text, field, words):
    """Each entry shows an absolute path, and the server that asks for it if the template is from one."""
    assert reached(text) == [Reach(field, words, URL)]
    assert reached(text, name="web.yaml") == [Reach(field, words, "")]


def test_reach_of_images_and_certificates_names_the_files(home, monkeypatch, tmp_path):
    """A file of this host becomes the guest's disk, kernel or certificate."""
    monkeypatch.setenv("HOME", "/home/anna")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    image = "{location: ~/x.qcow2, kernel: {location: /boot/vmlinuz}}"
    text = f"images: [{image}, {{location: 'https://example.org/x.img'}}]\ncaCerts: {{files: [{tmp_path}/ca.pem]}}\n"
    loaded = parse(Source(URL, text.encode()))
    assert [(one.field, one.words) for one in check(home, "web", loaded, SimulatedDriver(), Wishes())] == [
        ("caCerts.files[0]", f"the guest gets the certificates in {tmp_path}/ca.pem"),
        ("images[0]", "the guest gets /home/anna/x.qcow2"),
        ("images[0].kernel", "the guest gets /boot/vmlinuz"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "portForwards: [{guestPort: 80}]",
        "portForwards: [{guestSocket: /x, hostSocket: x.sock}]",
        "portForwards: [{guestPort: 80, ignore: true}]",
        "provision: [{script: 'true'}]\nenv: {A: b}\nmessage: hello",
    ],
    ids=["port", "socket-of-its-own", "ignored", "inside"],
)
def test_reach_that_harms_nobody_needs_no_yes(reached, text):
    """Loopback ports and sockets in the instance's directory are ordinary use of a guest."""
    assert [one.server for one in reached(text) if one.server] == []


@pytest.mark.parametrize(
    ("mine", "base", "servers"),
    [
        ("mounts: [{location: /srv}]", "cpus: 1", [""]),
        ("cpus: 1", "mounts: [{location: /srv}]", [URL]),
        ("mounts: [{location: /srv}]", "mounts: [{location: '*', writable: true}]", [URL]),
        ("mounts: [{location: '/srv/{{.Param.x}}'}]", "param: {x: '..'}", [URL]),
        ("mounts: [{location: '/srv/{{.Param.x}}'}]\nparam: {x: a}", "param: {x: '..'}", [""]),
        ("mounts: [{location: /srv}]", "mounts: [{location: /opt/x}]", ["", URL]),
    ],
    ids=["mine", "its", "filled", "param", "my-param", "each"],
)
def test_reach_of_a_base_from_a_server_is_the_servers(home, monkeypatch, mine, base, servers):
    """An entry is attributed to a base that fills it, or that gives the param which the entry uses."""
    texts = {URL: base.encode()}
    monkeypatch.setattr("interlock.templates.bases.read", lambda locator: Source(locator, texts[locator], locator))
    loaded = parse(Source("web.yaml", f"{IMAGE}base: {URL}\n{mine}\n".encode(), "/srv/web.yaml"))
    assert [one.server for one in check(home, "web", loaded, SimulatedDriver(), Wishes())] == servers


@pytest.mark.parametrize("socket", ["../../../x.sock", "{{.Dir}}/../../x.sock"])
def test_reach_of_a_socket_that_leads_out_of_the_instance_needs_a_yes(socket):
    """A path is judged after its `..` parts are resolved."""
    text = f"{IMAGE}portForwards: [{{guestSocket: /x, hostSocket: '{socket}'}}]"
    loaded = parse(Source(URL, text.encode()))
    home = Home(Path("/h"), Path("/r"))  # a short home, because the path of a socket has to be short
    assert [one.server for one in check(home, "web", loaded, SimulatedDriver(), Wishes())] == [URL]


def test_reach_of_an_edit_is_that_of_the_person_who_typed_it(reached):
    """An edit on the command line is the user's own request, not the server's."""
    assert [one.server for one in reached("cpus: 1\n", edits=("mounts[]={location: /srv}",))] == [""]


def test_plan_of_a_server_is_refused_by_name_without_trust(home, tmp_path):
    """Nothing is made without the user's consent, not even folders; the error lists what the server asks for."""
    text = f"{IMAGE}mounts: [{{location: {tmp_path}/new, writable: true}}]\nssh: {{forwardAgent: true}}\n"
    loaded, said = parse(Source(URL, text.encode())), []
    with pytest.raises(UntrustedTemplateError, match="needs --trust") as caught:
        plan(home, "web", loaded, SimulatedDriver(), Wishes())(said.append)
    assert caught.value.details == (
        f"mounts[0]: the guest reads and writes {tmp_path}/new; asked for by {URL}",
        f"ssh.forwardAgent: while you are logged in, the guest may use the keys of your ssh agent; asked for by {URL}",
    )
    assert not (tmp_path / "new").exists()
    plan(home, "web", loaded, SimulatedDriver(), Wishes(trust=True))(said.append)
    assert said[:2] == list(caught.value.details)
