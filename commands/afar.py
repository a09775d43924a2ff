"""`--host`: a command line is handed over to another machine's Interlock, and behaves as if run locally.

The words are sent unchanged, because the other Interlock has its own parser, table and messages. Only what concerns
this machine is handled here: templates are sent, `copy` and `tunnel` use this machine, and commands that make no sense
remotely are refused by name. All other paths are paths on the other machine.
"""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..api import guest_of
from ..errors import UsageError
from ..host.environment import passed_on
from ..remote.client import RemoteInterlock
from ..remote.connection import Connection
from ..remote.hints import for_host
from ..remote.ways import STDIN, is_file, sent_template, tunnel
from .instead import meaning
from .program import become
from .stdout import print_record

if TYPE_CHECKING:
    from ..remote.address import Host
    from .session import Session

HERE = frozenset({"help", "--version"})
"""Commands that print the same on every host."""

LOCAL = {
    "ssh-config": "it names keys and ports of that host; use `shell`, `run`, `copy` or `tunnel` instead",
    "limactl": "applications call it on their own host",
    "install-limactl": "applications call it on their own host",
}
"""Commands that make no sense on another host → why."""

READS_STDIN = frozenset({"shell", "run"})
"""Commands that pass standard input on; `template` also does if it reads a template from there. Others do not."""

PASSES_STATUS_ON = frozenset({"shell", "run"})
"""Commands that may themselves exit with 255."""

_PASSED_ON = ("INTERLOCK_QUIET", "INTERLOCK_DEBUG", "NO_COLOR", "COLUMNS")
"""Environment variables of this machine that change how output looks."""


def hand_over(
    ctx: click.Context, group: click.Group, host: "Host", words: Sequence[str], *, by_environment: bool
) -> int | None:
    """Have `host` do what `words` ask for, and return the exit code; None for commands that must be done here."""
    session: Session = ctx.obj
    words = meaning(words) or list(words)
    command = words[0]
    before = words[: words.index("--")] if "--" in words else words
    if command in HERE or (command == "list" and "--all-hosts" in before):
        return None
    if session.as_json and "--json" not in before:
        words.insert(1, "--json")  # it was typed before the command
    session.as_json = session.as_json or "--json" in before
    settings = _settings(session)
    connection = Connection(host)
    if by_environment:
        connection.typed_host = None
    match command:
        case "copy" if _copies_here(ctx, group, connection, words):
            return None
        case "tunnel":
            return _tunnel(ctx, group, connection, words, settings)
        case "shell" if "--preserve-env" in before and _read(ctx, group, words)["preserve_env"]:
            settings |= passed_on({key: it for key, it in os.environ.items() if not key.startswith("INTERLOCK_")})
        case "create" | "up" | "edit" | "template":
            words = _sent(ctx, group, connection, words)
        case "fleet":
            words = _sent_fleet(ctx, group, connection, words)
        case _ if command in LOCAL:
            raise UsageError(
                f"{command} does not work on another host: {LOCAL[command]}", hint=_retyped(host, ["list"])
            )
    return asked(connection, words, settings, stdin=command in READS_STDIN or _is_template_of_stdin(words))


def asked(connection: Connection, words: Sequence[str], settings: Mapping[str, str], *, stdin: bool) -> int:
    """Have the other machine do what `words` ask for with our standard streams, and return the exit code."""
    sys.stdout.flush()
    if all(os.isatty(descriptor) for descriptor in range(3)):
        connection.meet()
        become(connection.line(words, terminal=True, greet=False, settings=settings))
    status = connection.call(words, stdin=0 if stdin else None, stdout=1, stderr=_stderr, settings=settings).status
    if status == 255 and words[0] not in PASSES_STATUS_ON:  # noqa: PLR2004 - ssh's own
        raise connection.broken()
    return status if status >= 0 else 128 - status


def _stderr(piece: bytes) -> None:
    while piece:
        piece = piece[os.write(2, piece) :]


def _settings(session: "Session") -> dict[str, str]:
    """Return the environment that makes the output of the other machine look like this one's."""
    known = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    flags = {"INTERLOCK_QUIET": session.quiet, "INTERLOCK_DEBUG": session.debug}
    log_format = session.log_format or ("human" if os.isatty(2) else "logfmt")
    return {**known, **{key: "1" for key, on in flags.items() if on}, "INTERLOCK_LOG_FORMAT": log_format}


def _read(ctx: click.Context, group: click.Group, words: Sequence[str]) -> dict[str, Any]:
    """Return the parameters that `words` give, as this machine's parser reads them."""
    command = group.get_command(ctx, words[0])
    return dict(command.make_context(words[0], list(words[1:]), parent=ctx).params) if command else {}


def _retyped(host: "Host", words: Sequence[str]) -> str:
    return shlex.join(["interlock", "--host", host.label, *words])


def _copies_here(ctx: click.Context, group: click.Group, connection: Connection, words: Sequence[str]) -> bool:
    """Return whether files of this machine are copied: then the copy is done here, with the other machine's guests."""
    paths = _read(ctx, group, words).get("paths", ())
    if not paths or all(map(guest_of, paths)):
        return False
    session: Session = ctx.obj
    session.typed = lambda hint: for_host(hint, connection.typed_host)
    session.vms = RemoteInterlock(host=session.host)
    return True


def _tunnel(
    ctx: click.Context, group: click.Group, connection: Connection, words: Sequence[str], settings: Mapping[str, str]
) -> int:
    given = _read(ctx, group, words)
    session: Session = ctx.obj
    name, ports, socks = given["name"], given["ports"], given["socks"]
    if (ports is None) == (socks is None):
        return asked(connection, words, settings, stdin=False)  # the other machine reports the error
    local_port, port = ports or (socks, None)

    def opened() -> None:
        if session.as_json:
            known = {"host_ip": "127.0.0.1", "host_port": local_port, "guest_port": port}
            print_record({"name": name, **known}, "json")

    return tunnel(connection, name, local_port, port, report=session.report, opened=opened, settings=settings)


def _sent(ctx: click.Context, group: click.Group, connection: Connection, words: Sequence[str]) -> list[str]:
    """Send the files that `words` name to the other machine; return `words` with their names there."""
    words = list(words)
    if words[0] == "template":
        return _template(connection, words)
    given = _read(ctx, group, words)
    for folder in given.get("mount", ()):
        if not folder.startswith(("/", "~", "{{")):
            raise UsageError(f"--mount {folder}: the folder is on host {connection.host.label}; give its absolute path")
    if words[0] == "edit":
        file = given["file"]
        sent = file and connection.keep(file.name, file.read_bytes())
        return _with_option(words, "--file", sent) if sent else words
    named, template = given["words"] if words[0] == "create" else _one(given["name"]), given["template"]
    if words[0] == "up" and not named and template is None:
        from .naming import of_this_folder

        name, template = of_this_folder(ctx.obj)
        return _with_option([words[0], name, *words[1:]], "--template", sent_template(connection, template))
    if template is None:
        return [sent_template(connection, word) if word in named and is_file(word) else word for word in words]
    if is_file(template) or (template == STDIN and named):  # without a name, the other machine refuses it
        return _with_option(words, "--template", sent_template(connection, template))
    return words


def _sent_fleet(ctx: click.Context, group: click.Group, connection: Connection, words: list[str]) -> list[str]:
    """Send the file of a fleet, with the templates that it names here; return `words` with its name there."""
    fleet = group.get_command(ctx, words[0])
    if words[1:2] not in (["apply"], ["status"]) or not isinstance(fleet, click.Group):
        return words
    file = _read(ctx, fleet, words[1:])["file"]
    if file is None:
        return words
    from .. import Fleet

    name = "fleet.yaml" if file == STDIN else Path(file).name
    at = len(words) - 1 - words[::-1].index(file)
    return [*words[:at], connection.keep(name, Fleet.portable(file).encode(), typed=file), *words[at + 1 :]]


def _one(word: str | None) -> tuple[str, ...]:
    return () if word is None else (word,)


def _template(connection: Connection, words: list[str]) -> list[str]:
    if words[1:2] == ["copy"] and words[-1] != "-" and "--help" not in words:
        raise UsageError(
            "template copy would write the file on that host; print the text instead",
            hint=_retyped(connection.host, [*words[:-1], "-"]),
        )
    if words[1:2] == ["validate"]:
        return [sent_template(connection, word) if is_file(word) else word for word in words]
    return words


def _is_template_of_stdin(words: Sequence[str]) -> bool:
    return words[0] == "template" and STDIN in (words[2:-1] if words[1:2] == ["copy"] else words[2:])


def _with_option(words: Sequence[str], option: str, value: str) -> list[str]:
    """Return `words` with an `option` that overrides an earlier one, in whatever form that was typed."""
    end = words.index("--") if "--" in words else len(words)
    return [*words[:end], option, value, *words[end:]]
