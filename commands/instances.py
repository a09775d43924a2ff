"""The commands that give a name to an instance: to a copy, to a machine of limactl's, or another one to itself."""

import click

from ..fsm.table import Trigger
from .many import Which, each
from .options import name_argument, outcome_options, pass_session, timeout_option
from .session import Session
from .stdout import Format, print_result


@click.command("clone")
@name_argument
@click.argument("new", required=False)
@click.option("--as", "named", metavar="NEW", help="The name of the copy, in the place of the second argument.")
@click.option("--full", is_flag=True, help="Copy all of the disk, instead of sharing what is on it now.")
@outcome_options
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


@click.command("fork")
@name_argument
@click.argument("new", nargs=-1)
@click.option("--as", "named", metavar="NEW", multiple=True, help="The name of a copy, like the further arguments.")
@timeout_option("Give up when the memory is not copied, or a copy does not answer, by then.")
@outcome_options
@pass_session
def fork_command(  # noqa: PLR0917 - click calls it, by name
    session: Session,
    /,
    name: str,
    new: tuple[str, ...],
    named: tuple[str, ...],
    timeout_s: float | None,
    output_format: Format,
) -> None:
    """Make copies of NAME, which runs, and start them: each continues from the same moment.

    NAME stands still while its memory is copied, and keeps its connections. Each copy gets an identity of its own
    before it counts as running: hostname, machine id, ssh host key and port, instance id, clock and random numbers. A
    copy that cannot take it is ended, and the command says so.

    \b
    interlock fork web one two three
    interlock fork web --as one two
    """
    copies = (*named, *new)
    if not copies:
        raise click.UsageError("give a name for each copy")
    print_result(session.interlock.fork(name, *copies, timeout_s=timeout_s), output_format)
    each(
        session,
        Trigger.start,
        lambda vms, copy: vms.start(copy, timeout_s=timeout_s),
        names=copies,
        everything=False,
        filters=(),
        output_format=output_format,
    )


@click.command("adopt")
@click.argument("names", nargs=-1)
@outcome_options
@pass_session
def adopt_command(session: Session, names: tuple[str, ...], output_format: Format) -> None:
    """Take machines that limactl made as instances: those called NAMES, or all. Nothing in them is changed.

    They stay in LIMA_HOME, and limactl can be used beside Interlock. `interlock delete` gives one back, and leaves it
    to limactl.

    \b
    interlock adopt
    interlock adopt web
    """
    found = session.interlock.adoptable()
    names = names or tuple(found)
    if not names:
        session.report("limactl keeps no machine that is not an instance already")
        return
    which = Which(names=names, everything=False, filters=(), output_format=output_format)
    each(session, Trigger.create, lambda vms, name: vms.adopt(found.get(name, name)), **which)


@click.command("rename")
@name_argument
@click.argument("new")
@outcome_options
@pass_session
def rename_command(session: Session, name: str, new: str, output_format: Format) -> None:
    """Give the instance NAME, which does not run, the name NEW.

    Its disk, history, protection and port for ssh stay; clones of it are not touched. Its guest is not asked: it keeps
    the hostname that it has, and what a template wrote into it of the name.

    \b
    interlock rename web site
    """
    print_result(session.interlock.rename(name, new), output_format)
