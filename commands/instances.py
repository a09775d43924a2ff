"""The commands that give an instance a name: a copy, an adopted machine, or a renamed instance."""

import shlex

import click

from ..errors import UsageError
from ..fsm.table import Trigger
from .many import Which, each
from .options import name_argument, outcome_options, pass_session, timeout_option
from .session import Session
from .stdout import Format, print_result


@click.command("clone")
@name_argument
@click.argument("new", required=False)
@click.option("--as", "named", metavar="NEW", help="The name of the copy, instead of the second argument.")
@click.option("--full", is_flag=True, help="Copy the whole disk, instead of sharing its content.")
@outcome_options
@pass_session
def clone_command(  # noqa: PLR0917 - click calls it, by name
    session: Session, /, name: str, new: str | None, named: str | None, full: bool, output_format: Format
) -> None:
    """Make the instance NEW with a copy of the disk of NAME, which must not be running; NEW is not started.

    NEW gets its own identity: its first start is a first boot, at which the guest gets its own hostname, machine id and
    ssh host key and runs the scripts of the template. Processors, memory, mounts and port forwards are those of NAME;
    the ssh port is not. NEW is not protected, even if NAME is.

    The two share the present content of the disk, and each writes changes to a disk of its own. Either can be deleted,
    reset or changed without affecting the other.

    \b
    interlock clone web copy
    interlock clone web --as copy --full
    """
    if (new is None) == (named is None):
        raise click.UsageError("give one name for the copy, as the second argument or with --as")
    outcome = session.interlock.clone(name, new or named or "", full=full)
    print_result(outcome, output_format)


@click.command("fork")
@name_argument
@click.argument("new", nargs=-1)
@click.option(
    "--as", "named", metavar="NEW", multiple=True, help="The name of a copy, instead of an argument; may be repeated."
)
@click.option("--no-start", is_flag=True, help="Do not start the copies; the first start of each continues from there.")
@timeout_option("How long to wait for the memory to be copied, and for each copy to answer.")
@outcome_options
@pass_session
def fork_command(  # noqa: PLR0917 - click calls it, by name
    session: Session,
    /,
    name: str,
    new: tuple[str, ...],
    named: tuple[str, ...],
    no_start: bool,
    timeout_s: float | None,
    output_format: Format,
) -> None:
    """Make copies of the running instance NAME, and start them: each continues from the same moment.

    NAME is paused while its memory is copied, and keeps its connections. Each copy gets its own identity before it
    counts as running: hostname, machine id, ssh host key and port, instance id, clock and random numbers. A copy that
    fails to take on its identity is ended, and the command says so.

    \b
    interlock fork web one two three
    interlock fork web --as one two
    interlock fork web one --no-start
    """
    copies = (*named, *new)
    if not copies:
        raise click.UsageError("give a name for each copy")
    print_result(session.interlock.fork(name, *copies, timeout_s=timeout_s), output_format)
    if no_start:
        return
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
@click.option(
    "--cluster", default="", metavar="NAME", help="Adopt instances of this cluster that belong to other homes."
)
@outcome_options
@pass_session
def adopt_command(session: Session, names: tuple[str, ...], cluster: str, output_format: Format) -> None:
    """Adopt machines that limactl made as instances: those called NAMES, or all. The machines are not changed.

    They stay in LIMA_HOME, and limactl can still be used on them. `interlock delete` hands a machine back to limactl
    instead of removing it.

    With --cluster, adopt instances that another home made in that cluster, such as that of a manager that is lost. They
    keep running, and belong to this home afterwards: the other home can no longer act on them.

    \b
    interlock adopt
    interlock adopt web
    interlock adopt --cluster west web
    """
    found = session.interlock.adoptable(cluster=cluster)
    if cluster and not names:
        raise UsageError(
            f'cluster "{cluster}": {"give the names of those to adopt" if found else "there is none to adopt"}',
            hint=shlex.join(["interlock", "adopt", "--cluster", cluster, *found]) if found else None,
        )
    names = names or tuple(found)
    if not names:
        session.report("limactl has no machine that is not already an instance")
        return
    which = Which(names=names, everything=False, filters=(), output_format=output_format)
    each(session, Trigger.create, lambda vms, name: vms.adopt(found.get(name, name), cluster=cluster), **which)


@click.command("rename")
@name_argument
@click.argument("new")
@outcome_options
@pass_session
def rename_command(session: Session, name: str, new: str, output_format: Format) -> None:
    """Rename the instance NAME, which must not be running, to NEW.

    Its disk, history, protection and ssh port stay the same, and its clones are not affected. Nothing changes inside
    its guest, which keeps its hostname and whatever else was derived from the old name.

    \b
    interlock rename web site
    """
    print_result(session.interlock.rename(name, new), output_format)
