"""Ways from this machine into the guests of another one, through the connection to it. No key leaves that machine.

`copy` is this machine's scp or rsync, which speaks to the guest through that machine's ssh. `tunnel` is two forwards,
one after the other: from a port here to a socket there, and from that to the port in the guest.
"""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..host.files import make_private_directory, read_own, write_whole
from ..host.home import short_name
from ..host.progress import Report
from .connection import Connection
from .greeting import SFTP, TUNNEL, WAY

if TYPE_CHECKING:
    from ..templates.load import Loaded

STDIN = "-"
"""The locator of standard input, as for `templates.locate`, which most commands do not load."""

_SCRIPT = """\
#!/bin/sh
# Stands in for ssh: passes the requests of scp and rsync for a guest to the host that runs the guest.
part=run
while :; do
    case $1 in
    -s) part={sftp} ;;
    --) shift; break ;;
    -*) ;;
    *) break ;;
    esac
    shift
done
words="$part $1"
shift
[ "$part" != run ] || words="$words -- $*"
exec {line}" $words"
"""


def sent_template(connection: Connection, template: "str | Mapping[str, Any] | Loaded") -> str:
    """Return the locator by which the other machine finds `template`, which is sent unless it is a URL or a built-in.

    Bases and scripts that it names on this machine are part of the text that is sent. Raises what reading it raises.
    """
    from ..templates.load import Loaded, dump, parse
    from ..templates.locate import find

    if isinstance(template, str) and "\n" not in template and template != STDIN and not is_file(template):
        return template
    name = Path(template).name if isinstance(template, str) and is_file(template) else "template.yaml"
    loaded = template if isinstance(template, Loaded) else parse(find(template))
    return connection.keep(name, dump(loaded).encode())


def is_file(locator: str) -> bool:
    """Return whether `locator` is that of a template in a file of this machine."""
    scheme = ":" in locator.partition("/")[0] and not locator.startswith("file:")
    return not scheme and ("/" in locator or locator.endswith((".yaml", ".yml")))


def checked(connection: Connection, words: Sequence[str], settings: Mapping[str, str] | None = None) -> str:
    """Return what the other machine prints for `words`; raises its error as one of ours."""
    from .answers import error_in

    ended = connection.call(words, settings={**(settings or {}), "INTERLOCK_LOG_FORMAT": "json"})
    if ended.status:
        raise error_in(ended) or connection.broken()
    return ended.stdout.decode()


def script(connection: Connection) -> Path:
    """Return the program that stands in for ssh to reach guests over `connection`; the same for all guests.

    Each home of that host has its own script: a script is named after its text, and no other text ever replaces it.
    """
    *begin, command = connection.line([], greet=False)
    text = _SCRIPT.format(line=shlex.join([*begin, command]), sftp=SFTP)
    path = make_private_directory(connection.folder) / f"{connection.key}-{short_name(text)}.ssh"
    with suppress(OSError):
        if read_own(path) == text.encode() and os.access(path, os.X_OK):
            return path
    write_whole(path, text.encode(), program=True)
    return path


def tunnel(
    connection: Connection,
    name: str,
    local_port: int,
    port: int | None,
    *,
    report: Report,
    opened: Callable[[], object],
    settings: Mapping[str, str] | None = None,
) -> int:
    """Forward TCP `local_port` of 127.0.0.1 to `port` of the guest `name` until cancelled; without `port`, by SOCKS.

    `opened` is called when the whole way is open.
    """
    wanted = "socks" if port is None else str(port)
    place = checked(connection, [WAY, TUNNEL, name, wanted]).strip()
    here = f"127.0.0.1:{local_port}"
    way = f"forwarding {here} to port {port} of" if port else f"SOCKS proxy on {here} through"
    report(f'{way} "{name}" on {connection.host.label}; Ctrl-C ends it')
    forward = ["-L", f"127.0.0.1:{local_port}:{place}", "-o", "ExitOnForwardFailure=yes"]
    waiting = [opened]

    def hear(_: bytes) -> None:
        if waiting:
            waiting.pop()()

    ended = connection.call(
        [TUNNEL, name, wanted, place], options=forward, shared=False, settings=settings,
        stdout=hear,
        stderr=lambda piece: os.write(2, piece),
    )  # fmt: skip
    if ended.status == 255:  # noqa: PLR2004 - ssh's own
        raise connection.broken(name)
    return ended.status
