"""limactl's locators of templates, and its flags that edit a template.

--set '.cpus = 2 | .mounts += [{"location": "~/src"}]'   only assignments; other expressions of yq are refused
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from .flags import Call
    from .session import Session

DEFAULT_TEMPLATE = "template:default"

_ASSIGNMENT = re.compile(r"""\s*\.(?P<key>[^=+|]+?)\s*(?P<sign>\+?=)\s*(?P<value>.+?)\s*""", re.DOTALL)
_PIPE = re.compile(r"""((?:"(?:[^"\\]|\\.)*"|'[^']*'|[^|"'])*)(?:\||\Z)""")


def validate(session: "Session", call: "Call") -> int:
    """Report for each template that an instance can be created from it; raise for the first invalid template."""
    for given in call.arguments:
        for note in session.vms.templates.validate(locator(given)):
            session.stderr.warning(note)
        session.stderr.info(f"`{given}`: OK")
    return 0


def copy(session: "Session", call: "Call") -> int:
    """Write the template to a file or, for `-`, to stdout, with absolute locators unless --verbatim is given.

    With --embed or --embed-all, its bases and files are included, and its comments are lost.
    """
    given, target = (*call.arguments, "-")[:2]
    verbatim, embed = call.flags.get("verbatim"), call.flags.get("embed") or call.flags.get("embed-all")
    if verbatim and embed:
        raise UsageError("--verbatim cannot be used with any of --embed, --embed-all, or --fill")
    templates = session.vms.templates
    source = templates.find(locator(given))
    text = source.text
    if not verbatim:
        text = (templates.dump(templates.parse(source)) if embed else templates.movable(source)).encode()
    if target == "-":
        from ..commands.stdout import write

        write(text.decode(errors="replace"))
    else:
        Path(target).write_bytes(text)
    return 0


def yq(session: "Session", call: "Call") -> int:
    """Print the result of an expression on the template with its bases and files included."""
    import yaml

    from ..commands.stdout import write
    from .queries import query

    given, expression = call.arguments
    templates = session.vms.templates
    known = yaml.safe_load(templates.dump(templates.resolve(locator(given))))
    write(query(known, [expression], "plain"))
    return 0


def url(session: "Session", call: "Call") -> int:
    """Print the locator as limactl 2 writes it."""
    from ..commands.stdout import write

    given = call.arguments[0]
    if given.startswith("github:"):
        raise UsageError(f"{given}: locators by github: are not supported; use the https URL of the file")
    written = given.replace("template://", "template:", 1) if given.startswith("template://") else given
    if written != given:
        session.stderr.warning(f"Template locator `{given}` should be written `{written}` since Lima v2.0")
    write(f"{written}\n")
    return 0


def names_instance(argument: str) -> bool:
    """Return whether limactl takes `argument` as an instance's name: it is not a path, a URL or a file name."""
    from ..host.home import NAME

    return bool(NAME.fullmatch(argument)) and not argument.endswith((".yaml", ".yml"))


def locator(argument: str) -> str:
    """Return Interlock's locator for limactl's locator `argument`; raises UsageError for a bare name."""
    if names_instance(argument):
        raise UsageError(f"`{argument}` names an instance; a template is a file, a URL, or `template:{argument}`")
    if argument.startswith("template:"):
        name = argument.removeprefix("template:").removeprefix("//").removesuffix(".yaml")
        return f"template:{name}"
    return argument


def edits(flags: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the changes to a template that the flags ask for, as KEY=VALUE."""
    for one, other in _EXCLUSIVE:
        if flags.get(one) and flags.get(other):
            raise UsageError(f"flag `--{one}` conflicts with `--{other}`")
    made: list[str] = []
    for name, value in flags.items():
        if name in _EDITS:
            made += _EDITS[name](value)
    return tuple(made)


def _mounts(folders: list[str]) -> list[dict[str, Any]]:
    pairs = [(folder.removesuffix(":w"), folder.endswith(":w")) for folder in folders]
    return [
        {"location": folder if folder.startswith("~") else str(Path(folder).absolute()), "writable": writable}
        for folder, writable in pairs
    ]


def _param(text: str) -> str:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f'invalid argument "{text}" for "--param" flag: expected KEY=VALUE')
    return f"param.{name}={json.dumps(value)}"


def _port_forward(text: str) -> str:
    found = re.fullmatch(r"(\d+):(\d+)(?:,static=true)?", text)
    if not found:
        raise UsageError(f'invalid argument "{text}" for "--port-forward" flag: expected HOST:GUEST')
    return f"portForwards[]={json.dumps({'hostPort': int(found[1]), 'guestPort': int(found[2])})}"


def _containerd(mode: str) -> list[str]:
    asked = set() if mode == "none" else set(mode.split("+"))
    if not asked <= {"user", "system"}:
        raise UsageError(f'expected one of ["user", "system", "user+system", "none"], got "{mode}"')
    return [f"containerd.{name}={json.dumps(name in asked)}" for name in ("user", "system")]


def _assignments(expressions: list[str]) -> Iterator[str]:
    """Yield the assignments of yq expressions as edits; raise UsageError for any other expression."""
    for expression in expressions:
        for part in filter(str.strip, _PIPE.findall(expression)):
            found = _ASSIGNMENT.fullmatch(part)
            if not found:
                raise UsageError(
                    f'`--set {expression}`: only assignments are understood, such as `.cpus = 2 | .memory = "2GiB"`'
                )
            if found["sign"] == "=":
                yield f"{found['key']}={found['value']}"
                continue
            try:
                items = json.loads(found["value"])
            except ValueError:
                items = None
            if not isinstance(items, list):
                raise UsageError(f"`--set {expression}`: expected a JSON list after +=")
            yield from (f"{found['key']}[]={json.dumps(item)}" for item in reversed(items))


def _network(value: str) -> dict[str, Any]:
    """Return the network that `--network` means: `lima:NAME`, or `vzNAT`."""
    kind, _, name = value.partition(":")
    if value != "vzNAT" and not (kind == "lima" and name):
        raise UsageError(f"network name must be `vzNAT` or `lima:*`, got `{value}`")
    return {kind: name or True}


_EXCLUSIVE = (("mount", "mount-only"), ("mount-none", "mount"), ("mount-none", "mount-only"))


_EDITS: dict[str, Callable[[Any], list[str]]] = {
    "cpus": lambda value: [f"cpus={value}"],
    "memory": lambda value: [f"memory={value:g}GiB"],
    "disk": lambda value: [f"disk={value:g}GiB"],
    "mount": lambda value: [f"mounts[]={json.dumps(it)}" for it in _mounts(value)],
    "mount-only": lambda value: [f"mounts={json.dumps(_mounts(value))}"],
    "mount-none": lambda value: ["mounts=[]"] if value else [],
    "mount-type": lambda value: [f"mountType={value}"],
    "network": lambda value: [f"networks={json.dumps([_network(it) for it in value])}"],
    "nested-virt": lambda value: [f"nestedVirtualization={json.dumps(value)}"],
    "dns": lambda value: [f"dns={json.dumps(value)}", "hostResolver.enabled=false"],
    "ssh-port": lambda value: [f"ssh.localPort={value}"],
    "param": lambda value: [_param(it) for it in value],
    "set": lambda value: list(_assignments(value)),
    "arch": lambda value: [f"arch={value}"],
    "containerd": _containerd,
    "plain": lambda value: [f"plain={json.dumps(value)}"],
    "port-forward": lambda value: [_port_forward(it) for it in value],
}
"""Flag → function from its value to edits."""
