"""Lima's keys that are not implemented here: some do not apply, others are not supported yet.

A key that does not apply is ignored with a note. A key that is not supported yet is a mistake if it asks for
something, because a machine without that is not the one that was asked for. Nothing is silently dropped.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from . import slips
from .document import Path, at, place, written
from .expand import INTERNAL
from .merge import version
from .mistakes import Mistake, found, mistake, shortened
from .model import Template
from .parts import EDITED, Containerd, PortForward

LIMA = (2, 2)
"""The version of Lima whose templates are read."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one key is treated."""

    key: str
    """As people write it, with `[]` for every item: `provision[].mode`."""
    asks: Callable[[Any], bool]
    """True for a value that asks for something. False, null and empty values ask for nothing."""
    words: str = ""
    """What is not supported, if the key does not say so. For an ignored key: the reason, if it has its own."""
    inside: tuple[str, ...] = ()
    """Where in the value the message points."""
    instead: str = ""
    """What to do instead, for a key that is not supported."""

    def fits(self, path: Path) -> bool:
        return re.sub(r"\[\d+\]", "[]", written(path)) == self.key


def _something(value: Any) -> bool:
    """True for a value that contains anything other than null, false and empty text."""
    if isinstance(value, dict):
        return any(map(_something, value.values()))
    if isinstance(value, list):
        return any(map(_something, value))
    return value not in (None, False, "")


def _anything(value: Any) -> bool:
    return value not in (None, "", {}, [])


def _given(value: Any) -> bool:
    return value is not None


def _other_than(*fulfilled: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value not in ("", "default", *fulfilled)


def _among(*asked: str) -> Callable[[Any], bool]:
    return lambda value: value in asked


def _of_another_form(entry: Any) -> bool:
    """True for an entry of mode yq whose file's name says that it is neither JSON, YAML nor INI."""
    if not isinstance(entry, dict) or entry.get("mode") != "yq" or entry.get("format", "auto") != "auto":
        return False
    return str(entry.get("path")).endswith((".csv", ".properties", ".toml", ".tsv", ".xml"))


IGNORED = (
    Rule("vmType", _other_than("qemu")),
    Rule("vmOpts.vz", _something),
    Rule("vmOpts.wsl2", _something),
    Rule("vmOpts.krunkit", _something),
    Rule("vmOpts.qemu.minimumVersion", _anything),
    Rule("rosetta", _something),
    Rule("osOpts", _something),
    Rule("guestInstallPrefix", _anything),
    Rule("ssh.overVsock", _something),
    Rule("images[].variant", _anything),
    Rule("images[].archVariant", _anything),
    Rule("mounts[].sshfs", _anything),
    Rule("provision[].skipDefaultDependencyResolution", _something),
    Rule("audio.interface", _something),
    Rule("hostResolver.ipv6", _something),
    Rule("networks[].macAddress", _anything, "follows from the instance's id"),
    Rule("networks[].metric", _anything, "has no effect: on this network a guest reaches only its peers"),
    Rule("useHostResolver", _given, "is hostResolver.enabled since Lima 0.14"),
    Rule(f"param.{INTERNAL}", _anything),
)
"""Keys that do not apply here."""

_WITHOUT = "leave it out"

NOT_YET = (
    Rule("os", _other_than("Linux"), instead="guests run Linux"),
    Rule("arch", _among("armv7l", "ppc64le", "riscv64", "s390x"), instead="write x86_64 or aarch64"),
    Rule(
        "provision[].mode",
        _among("ansible"),
        instead="run the playbook on this host, with what `interlock ssh-config` prints",
    ),
    Rule("provision[].format", _other_than("auto", *EDITED), instead="edit the file in a script of mode system"),
    Rule(
        "provision[]",
        _of_another_form,
        "mode yq edits only JSON, YAML and INI",
        ("path",),
        instead="edit the file in a script of mode system",
    ),
    Rule(
        "networks[].lima", _other_than("user-v2"), instead="write user-v2, the network between the instances of a home"
    ),
    Rule("networks[].socket", _something, instead="write lima: user-v2, the network between the instances of a home"),
    Rule("networks[].vzNAT", _something, instead="leave it out: every guest reaches the internet through its host"),
    Rule("audio.device", _other_than("none"), instead=_WITHOUT),
    Rule("video.display", _other_than("none", "vnc"), instead="write vnc, and use your own viewer"),
    Rule("firmware.images[]", lambda _: True, instead="leave it out: this host's firmware is used"),
    Rule("mountInotify", _something, instead="leave it out: guests see changes, but get no events"),
)
"""Keys that are not supported yet."""


def lacking(tree: yaml.Node, data: dict[str, Any]) -> list[Mistake]:
    """Return a mistake for each value in `data`, the plain form of `tree`, that asks for what is not supported yet."""
    wrong = []
    for path, value in _walked(data):
        for rule in NOT_YET:
            if rule.fits(path) and rule.asks(value):
                words = f"not supported yet: {rule.words}" if rule.words else f"not supported yet, found {found(value)}"
                wrong.append(mistake(tree, (*path, *rule.inside), f"{words}; {rule.instead}"))
        if (why := _unwatched(path, value)) and not (_plain(data) and not value.get("static")):
            wrong.append(mistake(tree, path, why))
    return wrong


def notes(tree: yaml.Node, data: dict[str, Any], template: Template) -> list[Mistake]:
    """Return a note about each value of a valid template that is ignored or done differently."""
    said = [mistake(tree, path, words) for path, words in _ignored(data)]
    node, _ = at(tree, ("minimumLimaVersion",))
    if template.minimum_lima_version and version(node)[:2] > LIMA:
        said.append(mistake(tree, ("minimumLimaVersion",), f"this is read as Lima {LIMA[0]}.{LIMA[1]} would read it"))
    if template.video.vnc.display and template.video.display != "vnc":
        said.append(mistake(tree, ("video", "vnc"), "does not apply without display: vnc and is ignored"))
    if template.mount_type in ("reverse-sshfs", "wsl2") and template.mounts and not template.plain:
        words = f"{template.mount_type} does not apply here: {template.mount_kind} is used"
        said.append(mistake(tree, ("mountType",), words))
    said += [
        mistake(tree, ("portForwards", number, "proto"), "of the ports that open, only TCP ports are forwarded")
        for number, forward in enumerate(template.port_forwards)
        if forward.of_many_ports
        and {"proto", "static"} & forward.model_fields_set == {"proto"}
        and forward.proto == "any"
    ]
    if template.plain:
        said += [mistake(tree, path, "dropped, because plain is true") for path in _dropped(template)]
    return said


def comments(node: yaml.Node, path: Path = ()) -> Iterator[Mistake]:
    """Yield what to say about each key below `node` whose script YAML takes for a comment."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if words := slips.comment(key):
                yield Mistake(place(key), shortened(written((*path, key.value))), words)
            yield from comments(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from comments(item, (*path, number))


def _ignored(data: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield what to say about each key that does not apply: once, however many items of a list have it."""
    walked = list(_walked(data))
    for rule in IGNORED:
        if found := [path for path, value in walked if rule.fits(path) and rule.asks(value)]:
            more = f" (likewise in {len(found) - 1} more)" if len(found) > 1 else ""
            yield found[0], f"{rule.words or 'does not apply here'} and is ignored{more}"


def without_dropped(template: Template) -> Template:
    """Return `template` without what `plain: true` leaves out."""
    if not template.plain:
        return template
    forwards = tuple(forward for forward in template.port_forwards if forward.static)
    dropped = {"mounts": (), "port_forwards": forwards, "timezone": "", "containerd": Containerd()}
    return template.model_copy(update=dropped)


def _unwatched(path: Path, value: Any) -> str | None:
    """Return what the forward at `path` asks for that is not supported yet; None if there is nothing, or no forward."""
    if len(path) != 2 or path[0] != "portForwards":  # noqa: PLR2004 - the list and the position
        return None
    try:
        return PortForward.model_validate(value).unwatched
    except ValidationError:
        return None


def _dropped(template: Template) -> Iterator[Path]:
    yield from (("mounts", position) for position in range(len(template.mounts)))
    for position, forward in enumerate(template.port_forwards):
        if not forward.static:
            yield "portForwards", position
    if template.timezone:
        yield ("timezone",)
    for name in ("system", "user"):
        if getattr(template.containerd, name):
            yield "containerd", name


def _plain(data: dict[str, Any]) -> bool:
    return data.get("plain") is True


def _walked(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every value below `value` with its path."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key), item
        yield from _walked(item, (*path, key))
