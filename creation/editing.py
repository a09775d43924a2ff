"""Editing an instance: its spec is written as a text with a few keys of a template, and the edited text is read back.

The text has the keys, units and rules of a template, and is read by the same code. An instance is more than its spec:
the template keys that shaped its image or its guest's seed cannot be edited after `create`.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ..fsm import refusals
from ..fsm.port import Change
from ..fsm.spec import Forward, Mount, PortRule, Spec
from ..host.sizes import exact
from ..templates.editable import Text
from ..templates.locate import Source, read_file
from ..templates.parts import LOOPBACK
from ..templates.values import mount_point
from .resolve import DEFAULT_RULE, forwards, mount, port_rules


def text(name: str, spec: Spec) -> str:
    """Return the editable part of the instance `name`, as YAML."""
    return (
        f"# Instance {name}: forwards, disk and restart change at once, the rest at the next start. Disks only grow.\n"
        f"cpus: {spec.cpus}\n"
        f"memory: {exact(spec.memory_bytes)}\n"
        f"disk: {exact(spec.disk_bytes)}\n"
        f"restart: {spec.restart}\n"
        f"mounts:{_mounts(spec)}\n"
        f"portForwards:{_rules(spec)}\n"
    )


def _mounts(spec: Spec) -> str:
    """Return the mounts of `spec` as items of a template's mounts."""
    texts = [
        f"location: {json.dumps(it.location)}, mountPoint: {json.dumps(it.mount_point)}, "
        f"writable: {json.dumps(it.writable)}"
        for it in spec.mounts
    ]
    return "".join(f"\n- {{{text}}}" for text in texts) or " []"


def _edited_mounts(read: Text, spec: Spec) -> tuple[Mount, ...]:
    """Return the mounts that the text asks for; an unchanged mount keeps the values that the text does not show."""
    known = {(it.location, it.mount_point, it.writable): it for it in spec.mounts}
    kind: Literal["9p", "virtiofs"] = "virtiofs" if any(it.type == "virtiofs" for it in spec.mounts) else "9p"
    found = []
    for number, asked in enumerate(read.asked.mounts or ()):
        location = os.path.expanduser(asked.location)  # noqa: PTH111 - Path's own raises for an unknown user
        if not Path(location).is_dir():
            read.refuse(f"there is no folder {location}", "mounts", number, "location")
        try:
            mount_point(asked.mount_point or location)
        except ValueError as error:
            read.refuse(str(error), "mounts", number, "location")
        one = mount(asked.model_copy(update={"location": location}), kind)
        found.append(known.get((one.location, one.mount_point, one.writable), one))
    return tuple(found)


def _rules(spec: Spec) -> str:
    """Return the forwards of `spec`, and its rules for ports that open, as items of a template's portForwards.

    The forwards, each of one port or socket, can come first: no earlier rule has decided about these ports.
    """
    opening = [rule for rule in spec.port_rules if rule.act != "static" and rule != DEFAULT_RULE]
    items = (*map(_keys, spec.forwards), *map(_keys_of_rule, opening))
    return "".join(f"\n- {{{', '.join(keys)}}}" for keys in items) or " []"


def _keys_of_rule(rule: PortRule) -> Iterator[str]:
    """Yield the keys of a template's rule for `rule`, without default addresses."""
    yield f"guestPortRange: [{rule.first}, {rule.last}]"
    if rule.guest_ip != LOOPBACK:
        yield f"guestIP: {json.dumps(rule.guest_ip)}"
        yield f"guestIPMustBeZero: {json.dumps(rule.exact)}"
    if rule.act == "ignore":
        yield "ignore: true"
        return
    if rule.host_port != rule.first:
        yield f"hostPortRange: [{rule.host_port}, {rule.host_port + rule.last - rule.first}]"
    if rule.host_ip != LOOPBACK:
        yield f"hostIP: {json.dumps(rule.host_ip)}"


def _keys(forward: Forward) -> Iterator[str]:
    """Yield the keys of a template's rule for `forward`, without default addresses."""
    tcp = forward.proto == "tcp"
    if forward.guest_socket:
        yield f"guestSocket: {json.dumps(forward.guest_socket)}"
    else:
        yield f"guestPort: {forward.guest_port}"
        if tcp and forward.guest_ip != LOOPBACK:  # UDP always goes to the guest's own address
            yield f"guestIP: {json.dumps(forward.guest_ip)}"
    if forward.host_socket:
        yield f"hostSocket: {json.dumps(forward.host_socket)}"
    else:
        yield f"hostPort: {forward.host_port}"
        if forward.host_ip != LOOPBACK:
            yield f"hostIP: {json.dumps(forward.host_ip)}"
    if forward.reverse:
        yield "reverse: true"
    if not (forward.guest_socket or forward.host_socket):
        yield f"proto: {forward.proto}"


def change(name: str, file: Path | None, edits: tuple[str, ...], shown: str | None = None) -> Change:
    """Return a function that applies the text in `file`, if given, and then `edits` (`cpus=4`) to a spec.

    The function raises InvalidTemplateError with every mistake and its place. `shown` is the text before the user
    changed it: all of `file` is applied, so the function raises BusyError if the spec's text has changed since then.
    """

    source = None if file is None else read_file(str(file.absolute()))

    def changed(spec: Spec) -> Spec:
        if shown is not None and shown != text(name, spec):
            raise refusals.edited_since(name)
        read = Text(source or Source(f"instance {name}", text(name, spec).encode()), edits)
        asked = read.asked
        if asked.disk is not None and asked.disk < spec.disk_bytes:
            least = exact(spec.disk_bytes)
            read.refuse(
                f"a disk cannot shrink, because its guest may have written anywhere: expected {least} or more", "disk"
            )
        ways, rules = spec.forwards, spec.port_rules
        if asked.port_forwards is not None:
            # Whether Lima's own rule comes last was decided when the instance was created.
            ways, rules = forwards(asked.port_forwards), port_rules(asked.port_forwards, default=DEFAULT_RULE in rules)
        return spec._replace(
            cpus=asked.cpus or spec.cpus,
            memory_bytes=asked.memory or spec.memory_bytes,
            disk_bytes=asked.disk or spec.disk_bytes,
            restart=asked.restart or spec.restart,
            mounts=spec.mounts if asked.mounts is None else _edited_mounts(read, spec),
            forwards=ways if {*ways} != {*spec.forwards} else spec.forwards,  # their order has no meaning
            port_rules=rules,
        )

    return changed
