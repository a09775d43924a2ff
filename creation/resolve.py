"""What a template asks for, in the terms of a machine (fsm/spec.py) and of its guest (guest/facts.py).

Templates arrive with variables replaced and paths absolute (templates/expand.py). The rest is resolved here, once: port
ranges become single ports, files are read, and values that are not given are taken from this host.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import UsageError
from ..fsm.spec import Copy, Forward, Mount, PortRule, Probe, Spec
from ..guest import facts, own_scripts
from ..guest.keys import KeyPair
from ..host.yq import as_jq
from ..templates.model import Template
from ..templates.parts import ANY_ADDRESS, LOOPBACK, PortForward
from ..templates.parts import Mount as AskedMount
from . import host_facts

CPUS, MEMORY_BYTES, DISK_BYTES = 4, 4 << 30, 100 << 30
"""The defaults: at most as many processors as the host has, and at most half of its memory. As in Lima."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class User:
    """The guest's user, resolved."""

    name: str
    uid: int
    home: str


def user(template: Template, wished: str | None) -> User:
    """Return the guest's user: `wished`, the template's, or the creating user. The home may still contain variables."""
    name = wished or template.user.name or host_facts.user()
    uid = template.user.uid if template.user.uid is not None else host_facts.uid()
    # Not /home/NAME: a template may mount the host's home of that name there. As in Lima.
    home = template.user.home or ("/root" if name == "root" else f"/home/{name}.guest")
    return User(name, 0 if name == "root" else uid, home)


def cpus() -> int:
    """Return how many processors a machine gets by default."""
    return min(CPUS, len(os.sched_getaffinity(0)))


def memory_bytes() -> int:
    """Return how much memory a machine gets by default. Source: sysconf(3)."""
    return min(MEMORY_BYTES, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)


# -- the machine -------------------------------------------------------------------------------------------------------


def place(location: str) -> str:
    """Return `location`, made absolute if it is a path."""
    if re.match(r"[a-z]+:", location):
        return location
    return str(Path(os.path.expanduser(location)).absolute())  # noqa: PTH111 - Path's own raises for an unknown user


def mounts(template: Template) -> tuple[Mount, ...]:
    """Return the folders that the guest sees."""
    return tuple(mount(asked, template.mount_kind) for asked in template.mounts)


def mount(asked: AskedMount, kind: Literal["9p", "virtiofs"]) -> Mount:
    """Return the mount for `asked`, whose paths are absolute, of type `kind`."""
    return Mount(
        location=asked.location,
        mount_point=asked.mount_point or asked.location,
        writable=asked.writable,
        type=kind,
        security_model=asked.nine_p.security_model,
        queue_size=asked.virtiofs.queue_size,
        options=_options(asked, kind),
    )


VNC = "127.0.0.1:0,to=9"
"""The default display: the first free one of ten. As in Lima."""


def vnc(template: Template) -> str:
    """Return the VNC display that shows the guest's screen; empty if the guest has no screen."""
    return (template.video.vnc.display or VNC) if template.video.display == "vnc" else ""


def lan(template: Template) -> str:
    """Return the guest's name for its card on the network of instances; empty if it is not on that network."""
    return next((asked.interface for asked in template.networks), "")


DEFAULT_RULE = PortRule("forward", LOOPBACK, False, 1, 65535, LOOPBACK, 1)  # noqa: FBT003 - a record
"""Lima's own rule, after the template's: a port that opens on the guest's loopback opens on the host's too."""


def forwards(rules: tuple[PortForward, ...]) -> tuple[Forward, ...]:
    """Return a forward for each socket and port that `rules` forward from the start.

    If two rules name a port, the first one counts. Ports that are forwarded once they open are in `port_rules`.
    """
    found: list[Forward] = []
    decided: list[tuple[str, int, int]] = []
    for rule in rules:
        protos = ("tcp", "udp") if rule.proto == "any" else (rule.proto,)
        if rule.guest_socket or rule.host_socket:
            if not rule.ignore:
                found.append(_socket(rule))
            continue
        # QEMU forwards UDP from IPv4 addresses only; for an IPv6 one, a rule that names no protocol means TCP.
        if "proto" not in rule.model_fields_set and ":" in rule.host_ip:
            protos = ("tcp",)
        first, last = rule.guest_ports
        if not (rule.ignore or rule.of_many_ports):
            found += _ports(rule, protos, decided)
        decided += [(proto, first, last) for proto in protos]
    return tuple(found)


def port_rules(rules: tuple[PortForward, ...], *, default: bool) -> tuple[PortRule, ...]:
    """Return what to do with TCP ports that open in the guest; empty if none is ever forwarded.

    With `default`, the last rule is DEFAULT_RULE, unless an earlier one matches every port.
    """
    found: list[PortRule] = []
    for rule in rules:
        if rule.guest_socket or rule.host_socket or rule.proto == "udp":
            continue
        where = (rule.guest_ip_matched, rule.exact, *rule.guest_ports)
        found.append(PortRule(_act(rule), *where, rule.host_ip, rule.host_ports[0]))
        if where == (ANY_ADDRESS, False, 1, 65535):
            break  # it matches every port: later rules have no effect
    else:
        found += [DEFAULT_RULE] if default else []
    while found and found[-1].act != "forward":
        del found[-1]
    return tuple(found)


def _act(rule: PortForward) -> str:
    return "ignore" if rule.ignore else "forward" if rule.of_many_ports else "static"


def _ports(rule: PortForward, protos: tuple[str, ...], decided: list[tuple[str, int, int]]) -> Iterator[Forward]:
    """Yield a forward for each port of `rule` that no earlier rule has `decided`."""
    shift = rule.host_ports[0] - rule.guest_ports[0]
    for port in range(rule.guest_ports[0], rule.guest_ports[1] + 1):
        for proto in protos:
            if any(proto == one and low <= port <= high for one, low, high in decided):
                continue
            # QEMU reaches the guest only at the guest's own address, and ssh carries no datagrams.
            guest_ip = ANY_ADDRESS if proto == "udp" else rule.guest_address
            yield Forward(proto, guest_ip, port, "", rule.host_ip, port + shift, "", reverse=False)


def _socket(rule: PortForward) -> Forward:
    """Return the forward of `rule`, which has a socket at one end or at both."""
    return Forward(
        proto="tcp",
        guest_ip="" if rule.guest_socket else rule.guest_address,
        guest_port=0 if rule.guest_socket else rule.guest_ports[0],
        guest_socket=rule.guest_socket or "",
        host_ip="" if rule.host_socket else rule.host_ip,
        host_port=0 if rule.host_socket else rule.host_ports[0],
        host_socket=rule.host_socket or "",
        reverse=rule.reverse,
    )


def probes(template: Template) -> tuple[Probe, ...]:
    """Return what must succeed in the guest before it counts as ready."""
    count = len(template.probes)
    return tuple(
        Probe(asked.description or f"probe {number} of {count}", asked.script, asked.hint)
        for number, asked in enumerate(template.probes, start=1)
    )


def copies(template: Template) -> tuple[Copy, ...]:
    """Return the files to fetch from the guest."""
    return tuple(
        Copy(asked.guest, asked.host, asked.skip_if_missing, asked.delete_on_stop, asked.max_size)
        for asked in template.copy_to_host
    )


# -- the guest ---------------------------------------------------------------------------------------------------------


def seed(template: Template, spec: Spec, who: User, keys: tuple[str, ...], host_key: KeyPair) -> facts.Seed:
    """Return the facts for the guest of the machine `spec`; owners of `keys` may log in.

    Raises UsageError for an unreadable file, an unknown time zone, or a name without an address.
    """
    asked = template.user
    return facts.Seed(
        user=who.name,
        uid=who.uid,
        home=who.home,
        shell=asked.shell,
        comment=host_facts.full_name() if asked.comment is None else asked.comment,
        passwordless_sudo=asked.passwordless_sudo,
        hostname=spec.hostname,
        instance_id=spec.instance_id,
        ssh_port=spec.ssh_port,
        lan=spec.lan,
        authorized_keys=keys,
        host_key=host_key,
        timezone=spec.timezone,
        zone=host_facts.zone(spec.timezone) if spec.timezone else b"",
        locale="C.UTF-8",
        env=host_facts.environment(template.env, proxies=template.propagate_proxy_env),
        param=template.param,
        dns=template.dns,
        hosts={name: address(template, name) for name in template.host_resolver.hosts},
        ca_certs=tuple(_certificates(template)),
        remove_default_ca_certs=template.ca_certs.remove_defaults,
        upgrade_packages=template.upgrade_packages,
        disks=tuple(_guest_disks(template)),
        mounts=tuple(
            facts.MountPoint(f"mount{number}", mount.mount_point, mount.type, mount.options)
            for number, mount in enumerate(spec.mounts)
        ),
        files=tuple(
            facts.File(it.path or "", (it.content or "").encode(), it.owner, it.mode_bits, it.overwrite, it.once)
            for it in template.provision
            if it.mode == "data"
        ),
        scripts=tuple(_scripts(template, spec.arch)),
    )


def _scripts(template: Template, arch: str) -> Iterator[facts.Script]:
    """Yield the template's scripts and then our own, so that ours do not change the numbers of the template's."""
    yield from (
        facts.Script(it.mode, it.script.encode(), it.once) for it in template.provision if it.mode in facts.MODES
    )
    engine = template.containerd
    if engine.asked:
        archive = engine.archive(arch)
        yield own_scripts.containerd(
            system=engine.system,
            user=engine.user,
            archive=archive.location if archive else "",
            digest=(archive.digest if archive else None) or "",
        )
    edits = [it for it in template.provision if it.mode == "yq"]
    if edits:
        yield own_scripts.jq()
    for it in edits:
        program = as_jq(it.expression or "")
        yield own_scripts.edit(it.path or "", program, it.form, owner=it.owner, permissions=it.mode_bits, once=it.once)


def _options(asked: AskedMount, kind: str) -> str:
    """Return the mount options of `asked`. Source: Linux, Documentation/filesystems/9p.rst and virtiofs.rst."""
    access = "rw" if asked.writable else "ro"
    if kind == "virtiofs":
        return access
    nine_p = asked.nine_p
    # With `mmap` a guest sees at once what changes on the host, and programs may map files into their memory.
    cache = nine_p.cache or "mmap"
    return f"trans=virtio,version={nine_p.protocol_version},msize={nine_p.msize},cache={cache},{access}"


def _guest_disks(template: Template) -> Iterator[facts.GuestDisk]:
    for number, disk in enumerate(template.additional_disks):
        label = f"lima-{disk.name}"
        yield facts.GuestDisk(f"disk{number}", label[:16], f"/mnt/{label}", disk.format, disk.fs_type, disk.fs_args)


def address(template: Template, name: str) -> str:
    """Return the address of `name` in hostResolver.hosts; a name may be an alias of another.

    Raises UsageError if the aliases lead to no address.
    """
    targets = {**dict.fromkeys(facts.HOST_NAMES, facts.HOST_ADDRESS), **template.host_resolver.hosts}
    found, seen = targets[name], {name}
    while found in targets and found not in seen:
        seen.add(found)
        found = targets[found]
    if not re.fullmatch(r"[0-9.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*", found):
        raise UsageError(f"hostResolver.hosts.{name}: {found}: this name has no address here")
    return found


def certificates(template: Template, number: int) -> list[bytes]:
    """Return the certificates in the file `number` of caCerts.files. Raises UsageError if none can be read."""
    name = template.ca_certs.files[number]
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"caCerts.files[{number}]: {name}: {error.strerror}") from error
    found = _CERTIFICATE.findall(content)
    if not found:
        raise UsageError(f"caCerts.files[{number}]: {name}: holds no certificate in PEM form")
    return found


def _certificates(template: Template) -> Iterator[bytes]:
    """Yield each certificate of the template separately: a file may hold many."""
    for number in range(len(template.ca_certs.files)):
        yield from certificates(template, number)
    for text in template.ca_certs.certs:
        yield from _CERTIFICATE.findall(text.encode())
