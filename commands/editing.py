"""The command that changes what an instance is made of, by options or in an editor."""

import json
import os
import shlex
import sys
import tempfile
from pathlib import Path

import click

from ..errors import InterlockError, UsageError
from .machine_options import forward, mount_edit, mount_option, mounted, port_forward_option
from .options import Named, Size, name_argument, outcome_options, pass_session
from .session import Session
from .stdout import Format, print_result


@click.command("edit")
@name_argument
@click.option("--cpus", type=click.IntRange(1, 1024), metavar="N", help="Virtual processors.")
@click.option("--memory", type=Size(), help="Memory, such as 2GiB.")
@click.option("--disk", type=Size(), help="Size of the disk, such as 20GiB; it can grow, not shrink.")
@mount_option
@click.option("--mount-only", type=Named("dir"), multiple=True, metavar="DIR[:w]", help="Share DIR, no other folder.")
@click.option("--mount-none", is_flag=True, help="Share no folder.")
@port_forward_option
@click.option(
    "--set", "edits", multiple=True, metavar="KEY=VALUE", help="Change a key of the template: cpus=4, disk=20GiB."
)
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Read the keys from a file.")
@outcome_options
@pass_session
def edit_command(  # noqa: PLR0917 - click calls it, by name
    session: Session,
    name: str,
    cpus: int | None,
    memory: int | None,
    disk: int | None,
    mount: tuple[str, ...],
    mount_only: tuple[str, ...],
    mount_none: bool,
    port_forward: tuple[str, ...],
    edits: tuple[str, ...],
    file: Path | None,
    output_format: Format,
) -> None:
    """Change processors, memory, disk, mounts or port forwards of the instance NAME.

    Without options, everything that can be changed opens in $VISUAL or $EDITOR, as keys of a template. What you save is
    checked first; if it cannot be applied, or somebody else has edited NAME meanwhile, it is kept and the message names
    the file. Port forwards change and the disk grows at once, with its file system; everything else takes effect at the
    next start.

    \b
    interlock edit web --cpus 4 --memory 2GiB
    interlock edit web --mount ~/src:w --port-forward 8080:80
    interlock edit web --set portForwards=[]
    """
    given = {"cpus": cpus, "memory": memory, "disk": disk}
    asked = (
        *(f"{key}={value}" for key, value in given.items() if value is not None),
        *(["mounts=[]"] if mount_none else []),
        *([f"mounts={json.dumps([mounted(it) for it in mount_only])}"] if mount_only else []),
        *map(mount_edit, mount),
        *map(forward, port_forward),
        *edits,
    )
    if file is None and not asked:
        shown = session.interlock.editable(name)
        file = _from_editor(name, shown)
        if file is None:
            session.report(f'nothing was changed in the editor; "{name}" is unchanged')
            return
        try:
            outcome = session.interlock.edit(name, file=file, shown=shown)
        except InterlockError as error:
            error.details = (*error.details, f"what you saved is kept in {file}")
            error.hint = error.hint or f"interlock edit {name} --file {shlex.quote(str(file))}"
            raise
        file.unlink()
    else:
        outcome = session.interlock.edit(name, *asked, file=file)
    if not outcome.changed:
        session.report(f'"{name}" already has these values: nothing to edit')
    print_result(outcome, output_format)


def _from_editor(name: str, text: str) -> Path | None:
    """Return a file with `text`, the editable part of `name`, as the user changed it; None if nothing was changed."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "there is no terminal for an editor; give the changes as options", hint=f"interlock edit {name} --cpus 2"
        )
    changed = click.edit(text, extension=".yaml")
    if changed is None or changed == text:
        return None
    descriptor, path = tempfile.mkstemp(prefix=f"interlock-edit-{name}-", suffix=".yaml")
    with os.fdopen(descriptor, "w", encoding="utf-8") as kept:
        kept.write(changed)
    return Path(path)
