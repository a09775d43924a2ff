"""A template is resolved into a machine and its guest's seed, with no value left open."""

import pytest

from interlock.creation import resolve
from interlock.errors import UsageError
from interlock.fsm.spec import Copy, Forward, Probe
from interlock.guest import own_scripts
from interlock.guest.facts import File, GuestDisk, MountPoint, Script
from interlock.guest.keys import KeyPair
from interlock.templates.model import Template

HOST_KEY = KeyPair(b"PRIVATE\n", b"ssh-ed25519 BBBB\n")
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def asked(**keys):
    """Return a template with these keys, in Lima's spelling."""
    return Template.model_validate({"images": [{"location": "build:tiny"}], **keys})


def forwards(*rules):
    """Return (proto, guest IP, guest port, host IP, host port) of each forward that results from `rules`."""
    found = resolve.forwards(asked(portForwards=list(rules)).port_forwards)
    return [(it.proto, it.guest_ip, it.guest_port, it.host_ip, it.host_port) for it in found]


def test_forwards_range_is_counted_out():
    """Each port of a range becomes its own forward; both ends advance together."""
    assert forwards({"guestPortRange": [80, 82], "hostPortRange": [8080, 8082], "proto": "tcp"}) == [
        ("tcp", "127.0.0.1", 80, "127.0.0.1", 8080),
        ("tcp", "127.0.0.1", 81, "127.0.0.1", 8081),
        ("tcp", "127.0.0.1", 82, "127.0.0.1", 8082),
    ]


def test_forwards_first_rule_for_a_port_counts():
    """A later rule has no effect on a port that an earlier rule forwards or ignores."""
    assert forwards(
        {"guestPort": 81, "ignore": True},
        {"guestPort": 80, "hostPort": 8080, "proto": "tcp"},
        {"guestPortRange": [80, 82], "proto": "tcp"},
    ) == [("tcp", "127.0.0.1", 80, "127.0.0.1", 8080), ("tcp", "127.0.0.1", 82, "127.0.0.1", 82)]


def test_forwards_ignored_range_is_ignored_in_both_protocols():
    """A port of an ignored range is not forwarded, even if a later rule asks for it."""
    assert forwards({"guestIP": "0.0.0.0", "proto": "any", "ignore": True}, {"guestPort": 53, "proto": "any"}) == []


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, [("tcp", "127.0.0.1"), ("udp", "0.0.0.0")]),
        ({"hostIP": "::1"}, [("tcp", "127.0.0.1")]),
        ({"proto": "tcp"}, [("tcp", "127.0.0.1")]),
        ({"proto": "tcp", "guestIP": "0.0.0.0"}, [("tcp", "0.0.0.0")]),
        ({"proto": "tcp", "guestIP": "0.0.0.0", "guestIPMustBeZero": True}, [("tcp", "0.0.0.0")]),
        ({"proto": "tcp", "guestIP": "0.0.0.0", "guestIPMustBeZero": False}, [("tcp", "127.0.0.1")]),
        ({"proto": "tcp", "guestIPMustBeZero": True}, [("tcp", "0.0.0.0")]),
        ({"proto": "tcp", "guestIPMustBeZero": False}, [("tcp", "127.0.0.1")]),
        ({"proto": "tcp", "guestIP": "127.0.0.2"}, [("tcp", "127.0.0.2")]),
        ({"proto": "udp"}, [("udp", "0.0.0.0")]),
        ({"proto": "any"}, [("tcp", "127.0.0.1"), ("udp", "0.0.0.0")]),
    ],
)
def test_forwards_guest_address_decides_who_carries_it(rule, expected):
    """QEMU reaches the guest's own address, and ssh its loopback; ssh carries no datagrams."""
    assert [forward[:2] for forward in forwards({"guestPort": 53, "hostPort": 5353, **rule})] == expected


def test_forwards_hosts_address_is_the_templates():
    """The host's address is the loopback, unless the template says otherwise."""
    assert forwards({"guestPort": 80, "hostIP": "0.0.0.0", "proto": "tcp"}) == [("tcp", "127.0.0.1", 80, "0.0.0.0", 80)]


def test_forwards_sockets_and_ports_lead_to_each_other():
    """Each end is either a port or a socket; a reverse forward leads from the guest to the host."""
    rules = asked(
        portForwards=[
            {"guestSocket": "/run/it.sock", "hostSocket": "/tmp/it.sock"},
            {"guestSocket": "/run/it.sock", "hostPort": 2375},
            {"guestPort": 80, "hostSocket": "/tmp/web.sock"},
            {"guestSocket": "/run/back.sock", "hostSocket": "/tmp/back.sock", "reverse": True},
        ]
    ).port_forwards
    assert resolve.forwards(rules) == (
        Forward("tcp", "", 0, "/run/it.sock", "", 0, "/tmp/it.sock", reverse=False),
        Forward("tcp", "", 0, "/run/it.sock", "127.0.0.1", 2375, "", reverse=False),
        Forward("tcp", "127.0.0.1", 80, "", "", 0, "/tmp/web.sock", reverse=False),
        Forward("tcp", "", 0, "/run/back.sock", "", 0, "/tmp/back.sock", reverse=True),
    )


def test_probes_and_copies_are_taken_over():
    """A probe without a description is known by its number."""
    template = asked(
        probes=[{"script": "#!/bin/true"}, {"script": "#!/bin/true", "description": "it answers", "hint": "wait"}],
        copyToHost=[
            {"guest": "/etc/motd", "host": "/tmp/motd", "deleteOnStop": True},
            {"guest": "/etc/dump", "host": "/tmp/dump", "maxSize": "4GiB"},
        ],
    )
    assert resolve.probes(template) == (
        Probe("probe 1 of 2", "#!/bin/true", ""),
        Probe("it answers", "#!/bin/true", "wait"),
    )
    assert resolve.copies(template) == (
        Copy("/etc/motd", "/tmp/motd", skip_if_missing=False, delete_on_stop=True, max_bytes=1 << 30),
        Copy("/etc/dump", "/tmp/dump", skip_if_missing=False, delete_on_stop=False, max_bytes=4 << 30),
    )


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({}, ("interlock", 1000, "/home/interlock.guest")),
        ({"name": "anna", "uid": 7}, ("anna", 7, "/home/anna.guest")),
        ({"name": "anna", "home": "/srv/anna"}, ("anna", 1000, "/srv/anna")),
        ({"name": "root"}, ("root", 0, "/root")),
    ],
    ids=["default", "named", "home", "root"],
)
def test_user_is_decided(monkeypatch, user, expected):
    """The user is the host's, with a home that no mount of the host's home can cover; root stays root."""
    monkeypatch.setattr(resolve.host_facts, "user", lambda: "interlock")
    monkeypatch.setattr(resolve.host_facts, "uid", lambda: 1000)
    who = resolve.user(asked(user=user), None)
    assert (who.name, who.uid, who.home) == expected


@pytest.fixture
def said(spec):
    """Return a function that returns the seed made from a template's keys."""

    def tell(machine=spec, **keys):
        template = asked(**keys)
        return resolve.seed(template, machine, resolve.user(template, "anna"), ("KEY",), HOST_KEY)

    return tell


def test_seed_carries_what_the_template_says(said):
    """Scripts and files keep their order and their content."""
    seed = said(
        provision=[
            {"mode": "system", "script": "one"},
            {
                "mode": "data",
                "path": "/etc/x",
                "content": "y",
                "owner": "anna",
                "permissions": "600",
                "overwrite": False,
            },
            {"mode": "user", "script": "two"},
        ],
        param={"A": "b"},
        upgradePackages=True,
        dns=["9.9.9.9"],
        hostResolver={"enabled": False},
        user={"comment": "Anna", "shell": "/bin/zsh"},
    )
    assert seed.scripts == (Script("system", b"one"), Script("user", b"two"))
    assert seed.files == (File("/etc/x", b"y", "anna", 0o600, overwrite=False),)
    assert (seed.param, seed.upgrade_packages, seed.dns) == ({"A": "b"}, True, ("9.9.9.9",))
    assert (seed.user, seed.comment, seed.shell, seed.authorized_keys) == ("anna", "Anna", "/bin/zsh", ("KEY",))


def test_seed_has_a_script_for_each_edit(said):
    """Edits run after the template's scripts, which keep their numbers; jq is installed once for all edits."""
    edit = {"mode": "yq", "owner": "anna", "permissions": "600"}
    seed = said(
        provision=[
            {**edit, "path": "/etc/x.json", "expression": ".a-b = 1"},
            {"mode": "system", "script": "one"},
            {**edit, "path": "/etc/x", "expression": ".a = 1", "once": True},
        ]
    )
    assert seed.scripts == (
        Script("system", b"one"),
        own_scripts.jq(),
        own_scripts.edit("/etc/x.json", '."a-b" = 1', "json", owner="anna", permissions=0o600, once=False),
        own_scripts.edit("/etc/x", ".a = 1", "yaml", owner="anna", permissions=0o600, once=True),
    )
    assert seed.files == ()


ARCHIVES = [
    {"location": "https://example.org/arm.tgz", "arch": "aarch64"},
    {"location": "https://example.org/amd.tgz", "arch": "x86_64", "digest": f"sha256:{'a' * 64}"},
]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({"system": True}, {"system": True, "user": False}),
        (
            {"user": True, "archives": ARCHIVES},
            {"system": False, "user": True, "archive": "https://example.org/amd.tgz", "digest": f"sha256:{'a' * 64}"},
        ),
    ],
    ids=["packages", "archive"],
)
def test_seed_has_a_script_for_containerd(said, spec, asked, given):
    """containerd comes from packages, or from the archive for the machine's architecture."""
    seed = said(machine=spec._replace(arch="x86_64"), containerd=asked)
    assert seed.scripts == (own_scripts.containerd(**given),)


def test_seed_disks_are_found_by_number_and_mounted_by_name(said):
    """A label has room for sixteen bytes, a path for the whole name."""
    seed = said(additionalDisks=["data", {"name": "a-very-long-name", "format": False, "fsType": "xfs"}])
    assert seed.disks == (
        GuestDisk("disk0", "lima-data", "/mnt/lima-data", format=True),
        GuestDisk("disk1", "lima-a-very-long", "/mnt/lima-a-very-long-name", format=False, fs_type="xfs"),
    )


@pytest.mark.parametrize(
    ("mount", "options"),
    [
        ({}, "trans=virtio,version=9p2000.L,msize=131072,cache=mmap,ro"),
        (
            {"writable": True, "9p": {"msize": "8KiB", "cache": "none"}},
            "trans=virtio,version=9p2000.L,msize=8192,cache=none,rw",
        ),
    ],
    ids=["default", "given"],
)
def test_seed_mounts_say_how(said, spec, tmp_path, mount, options):
    """The tag is the machine's, the options are the template's."""
    mounts = [{"location": str(tmp_path), "mountPoint": "/mnt/it", **mount}]
    machine = spec._replace(mounts=resolve.mounts(asked(mounts=mounts)))
    assert said(machine, mounts=mounts).mounts == (MountPoint("mount0", "/mnt/it", "9p", options),)


def test_seed_hosts_are_addresses(said):
    """A name may refer to another name, or to the host, whose names are known in every guest."""
    hosts = {"a.test": "b.test", "b.test": "192.0.2.7", "c.test": "host.lima.internal", "d.test": "::1"}
    assert said(hostResolver={"hosts": hosts}).hosts == {
        "a.test": "192.0.2.7",
        "b.test": "192.0.2.7",
        "c.test": "10.0.2.2",
        "d.test": "::1",
    }


@pytest.mark.parametrize(
    "hosts", [{"a.test": "b.test"}, {"a.test": "b.test", "b.test": "a.test"}], ids=["none", "loop"]
)
def test_seed_host_that_leads_nowhere_is_refused(said, hosts):
    """No guest could resolve it."""
    with pytest.raises(UsageError, match=r"hostResolver.hosts.a.test: .*: this name has no address here"):
        said(hostResolver={"hosts": hosts})


def test_seed_certificates_are_read_one_by_one(said, tmp_path):
    """A file may hold several certificates; the text between them is left out."""
    (tmp_path / "all.pem").write_text(f"# ours\n{CERTIFICATE}\n# theirs\n{CERTIFICATE}")
    seed = said(caCerts={"removeDefaults": True, "files": [str(tmp_path / "all.pem")], "certs": [CERTIFICATE]})
    assert (seed.ca_certs, seed.remove_default_ca_certs) == ((CERTIFICATE.encode(),) * 3, True)


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), ("PRIVATE KEY", "holds no certificate in PEM form")]
)
def test_seed_invalid_certificate_is_refused(said, tmp_path, content, words):
    """The error names the entry and the file."""
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with pytest.raises(UsageError, match=rf"caCerts.files\[0\]: {path}: {words}"):
        said(caCerts={"files": [str(path)]})
