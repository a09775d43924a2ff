"""The commands `interlock limactl`, which runs the drop-in, and `interlock install-limactl`, which installs it."""

import shlex
import sys
from pathlib import Path

import click

from ..commands.options import json_option, pass_session
from ..commands.session import Session
from ..commands.stdout import print_record
from ..errors import UsageError
from .__main__ import run

_LIMACTL = """\
#!/bin/sh
# limactl, by Interlock: written by `interlock install-limactl`.
exec {python} -P -c 'from interlock.limactl.__main__ import main; main()' "$@"
"""

_LIMA = """\
#!/bin/sh
# lima, by Interlock: a shell in the instance LIMA_INSTANCE, or a command there.
exec {limactl} shell --instance="${{LIMA_INSTANCE:-default}}" "$@"
"""

OURS = "by Interlock:"
"""Text that marks a program as written by Interlock, so that it may be overwritten."""


@click.command("limactl", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def limactl_command(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Do what limactl does with WORDS: its calls, its output, its exit codes.

    \b
    interlock limactl list --json
    """
    ctx.exit(run(words))


@click.command("install-limactl")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@json_option
@pass_session
def install_limactl_command(session: Session, directory: Path) -> None:
    """Put the programs `limactl` and `lima` into DIR, for applications that call them.

    A program of another origin is not replaced.

    \b
    interlock install-limactl ~/bin
    """
    directory = directory.absolute()
    programs = {
        directory / "limactl": _LIMACTL.format(python=shlex.quote(sys.executable)),
        directory / "lima": _LIMA.format(limactl=shlex.quote(str(directory / "limactl"))),
    }
    for path in programs:
        if path.exists() and OURS.encode() not in path.read_bytes():
            raise UsageError(f"{path} exists and is not Interlock's; move it away, or choose another folder")
    directory.mkdir(parents=True, exist_ok=True)
    for path, text in programs.items():
        path.write_text(text)
        path.chmod(0o755)
        session.report(f"wrote {path}")
        if session.as_json:
            print_record({"path": str(path)}, "json")
