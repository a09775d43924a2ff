"""What a machine can read, write or use of this host, beyond the access to the guest that every instance has.

`create` lists all of it, with the host's own paths. What a template from a server asks for needs the user's consent: at
a terminal the user is asked, a script passes --trust. Files of this host, built-in templates and the command line need
no consent: their authors could do the same without a template.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as HostPath

import yaml

from ..templates.document import Path, at, get, items, place, plain, written
from ..templates.model import Template
from ..templates.variables import VariableError, names

LOOPBACK = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Reach:
    """One thing on this host that the machine can read, write or use."""

    field: str
    """The key that asks for it: `mounts[0]`."""
    words: str
    server: str
    """The URL of the template that asks for it; empty if it is trusted, or the access is harmless."""

    def __str__(self) -> str:
        return f"{self.field}: {self.words}" + (f"; asked for by {self.server}" if self.server else "")


def reach(tree: yaml.Node, template: Template, arch: str, directory: str) -> list[Reach]:
    """Return what `template`, resolved from `tree`, reaches on this host. Its sockets in `directory` are harmless."""
    found = []
    for path, words, harmless in (
        *_files(template, arch),
        *_forwards(tree, template, directory),
        *_ssh(template),
        *_peers(template),
    ):
        found.append(Reach(written(path), words, "" if harmless else _server(tree, path)))
    return found


_Found = Iterator[tuple[Path, str, bool]]
"""The key that asks for the access, what it is, and whether it is harmless."""


def _files(template: Template, arch: str) -> _Found:
    for number, mount in enumerate(template.mounts):
        access = "reads and writes" if mount.writable else "reads"
        yield ("mounts", number), f"the guest {access} {mount.location}", False
    for number, copy in enumerate(template.copy_to_host):
        removed = ", and removes it when the guest stops" if copy.delete_on_stop else ""
        yield ("copyToHost", number), f"writes {copy.host} from the guest{removed}", False
    for number, disk in enumerate(template.additional_disks):
        yield ("additionalDisks", number), f"the guest reads and writes the disk {disk.name}", False
    for number, name in enumerate(template.ca_certs.files):
        yield ("caCerts", "files", number), f"the guest gets the certificates in {name}", False
    for number, image in enumerate(template.images):
        for part, file in (("", image), ("kernel", image.kernel), ("initrd", image.initrd)):
            if file and image.arch in (arch, None) and not re.match(r"(build|https?):", file.location):
                here = HostPath(file.location.removeprefix("file://")).expanduser().absolute()
                yield ("images", number, *filter(None, [part])), f"the guest gets {here}", False


def _forwards(tree: yaml.Node, template: Template, directory: str) -> _Found:
    # A plain template keeps only its static forwards; each is reported at its position in the text.
    texts = [plain(node) for node in items(get(tree, "portForwards"))]
    positions = [number for number, text in enumerate(texts) if not template.plain or text.get("static")]
    for number, forward in zip(positions, template.port_forwards, strict=True):
        here = forward.host_socket or f"{forward.host_ip}:{_ports(forward.host_ports)}"
        there = forward.guest_socket or _ports(forward.guest_ports)
        if forward.ignore:
            continue
        if forward.reverse:
            yield ("portForwards", number), f"the guest connects to this host's {here}", False
        elif forward.host_socket:
            own = os.path.normpath(here).startswith(f"{directory}/")  # a `..` must not lead out of it
            yield ("portForwards", number), f"{here} → {there}", own
        else:
            yield ("portForwards", number), f"{here} → {there}", forward.host_ip in LOOPBACK


def _ssh(template: Template) -> _Found:
    ssh = template.ssh
    if ssh.load_dot_ssh_pub_keys:
        yield ("ssh", "loadDotSSHPubKeys"), "the guest gets the public keys in ~/.ssh and admits their owners", False
    if ssh.forward_agent:
        yield ("ssh", "forwardAgent"), "while you are logged in, the guest may use the keys of your ssh agent", False
    if ssh.forward_x11:
        limits = ", without X11's limits" if ssh.forward_x11_trusted else ""
        yield ("ssh", "forwardX11"), f"while you are logged in, the guest may use your display{limits}", False


def _peers(template: Template) -> _Found:
    for number, _ in enumerate(template.networks):
        yield ("networks", number), "the guest reaches the guests of your other instances on this network", False


def _ports(ports: tuple[int, int]) -> str:
    first, last = ports
    return str(first) if first == last else f"{first}-{last}"


def _server(tree: yaml.Node, path: Path) -> str:
    """Return the URL of a template that sets the value at `path`, a part of it, or a param in it; else empty."""
    node, _ = at(tree, path)
    return next((name for name in _sources(tree, node) if name.startswith(("http://", "https://"))), "")


def _sources(tree: yaml.Node, node: yaml.Node) -> Iterator[str]:
    yield place(node).source
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield place(key).source
            yield from _sources(tree, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _sources(tree, item)
    else:
        for name in _params(str(node.value)):
            if param := get(get(tree, "param"), name):
                yield place(param).source


def _params(text: str) -> list[str]:
    try:
        used = names(text) if "{{" in text else []
    except VariableError:  # a mistake that is reported elsewhere
        return []
    return [name.removeprefix("Param.") for name, _ in used if name.startswith("Param.")]
