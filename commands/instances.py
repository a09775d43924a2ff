"""The commands that give a name to an instance: to a copy, or another one to itself."""

import click

from .options import format_option, name_argument, pass_session
from .session import Session
from .stdout import Format, print_result


@click.command("clone")
@name_argument
@click.argument("new", required=False)
@click.option("--as", "named", metavar="NEW", help="The name of the copy, in the place of the second argument.")
@click.option("--full", is_flag=True, help="Copy all of the disk, instead of sharing what is on it now.")
@format_option
@pass_session
def clone_command(  # noqa: PLR0917 - click calls it, by name
    session: Session, /, name: str, new: str | None, named: str | None, full: bool, output_format: Format
) -> None:
    """Make the instance NEW, with a copy of the disk of NAME, which does not run; it is not started.

    NEW gets an identity of its own: at its first start, which is a first boot, its guest has another hostname, machine
    id and ssh host key, and the scripts of the template run in it. Processors, memory, mounts and port forwards are
    those of NAME, the port for ssh is another. NEW is not protected, even if NAME is.

    The two share what is on the disk now, and write what is new to disks of their own. Either can be deleted, reset
    or changed without the other.

    \b
    interlock clone web copy
    interlock clone web --as copy --full
    """
    if (new is None) == (named is None):
        raise click.UsageError("give one name for the copy, as the second argument or by --as")
    outcome = session.interlock.clone(name, new or named or "", full=full)
    print_result(outcome, output_format)


@click.command("rename")
@name_argument
@click.argument("new")
@format_option
@pass_session
def rename_command(session: Session, name: str, new: str, output_format: Format) -> None:
    """Give the instance NAME, which does not run, the name NEW.

    Its disk, history, protection and port for ssh stay; clones of it are not touched. Its guest is not asked: it keeps
    the hostname that it has, and what a template wrote into it of the name.

    \b
    interlock rename web site
    """
    print_result(session.interlock.rename(name, new), output_format)
