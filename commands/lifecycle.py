"""The commands that move an instance: one for each row of the table that can be requested, and the composites."""

from typing import TYPE_CHECKING, Any, Unpack

import click
from click.core import ParameterSource

from ..fsm import words
from ..fsm.states import EXISTING
from ..fsm.table import Trigger
from .agreement import agreed_on, trust_proposed
from .machine_options import machine_options, wishes
from .many import UNCHOSEN, Which, each, names_argument
from .naming import refuse_template, the_only_instance, to_bring_up, to_create
from .options import (
    Named,
    format_option,
    name_argument,
    on_failure_option,
    optional_name_argument,
    outcome_options,
    pass_session,
    timeout_option,
)
from .session import Session
from .stdout import Format, print_result

if TYPE_CHECKING:
    from ..api import Interlock
    from ..fsm.engine import Outcome


@click.command("create")
@click.argument("words", nargs=-1, type=Named("template"), metavar="[NAME|TEMPLATE]")
@click.option(
    "--template", "-t", type=Named("template"), help="A built-in's name, a path, a URL, or - for standard input."
)
@click.option("--yes", "-y", is_flag=True, help="Ask nothing, also at a terminal.")
@machine_options
@outcome_options
@pass_session
def create_command(  # noqa: PLR0917 - click calls it, by name
    session: Session,
    /,
    words: tuple[str, ...],
    template: str | None,
    yes: bool,
    driver: str | None,
    output_format: Format,
    **asked: Any,
) -> None:
    """Create the instance NAME from a template; it is not started.

    Without NAME, the instance is named after its template. Once it is created, it no longer needs the template. At a
    terminal, a summary of the machine is shown first, and can be changed.

    \b
    interlock create web --template debian --cpus 4 --memory 2GiB
    interlock create web --template ./web.yaml --mount ~/src:w --port-forward 8080:80
    interlock create tiny
    interlock create ./web.yaml
    """
    name, template = to_create(session, words, template)
    session.bind(name, "create")
    given = wishes(**asked)
    chosen, given = agreed_on(session, name, template, given, driver, yes=yes)
    with trust_proposed(click.get_current_context()):
        outcome = session.interlock.create(name, chosen, given, driver=driver)
    print_result(outcome, output_format)


@click.command("start")
@names_argument
@click.option("--cold", is_flag=True, help="Boot, and set aside the memory that `suspend` saved.")
@timeout_option("How long to wait for the guest to answer.")
@on_failure_option
@outcome_options
@pass_session
def start_command(
    session: Session, /, cold: bool, timeout_s: float | None, on_failure: str, **which: Unpack[Which]
) -> None:
    """Start existing instances, and wait until their guests answer.

    A guest whose memory was saved by `suspend` continues where it was.

    \b
    interlock start web
    interlock start web db cache
    interlock start --filter state=stopped
    interlock start web --timeout 60 --on-failure keep
    interlock start web --cold

    At a terminal, the name can be left out if there is only one instance.
    """
    for name in which["names"]:
        refuse_template("start", name)
    if not which["names"] and not which["everything"] and not which["filters"]:
        which["names"] = (the_only_instance(session, "start", f"start: {UNCHOSEN}"),)
    keep = on_failure == "keep"

    def start(vms: "Interlock", name: str) -> "Outcome":
        return vms.start(name, timeout_s=timeout_s, keep_on_failure=keep, cold=cold)

    for outcome in each(session, Trigger.start, start, **which):
        session.pass_message_on(outcome)


@click.command("up")
@optional_name_argument
@click.option("--template", "-t", type=Named("template"), help="The template to create it from, if it is absent.")
@machine_options
@timeout_option("How long to wait for the guest to answer.")
@on_failure_option
@outcome_options
@pass_session
def up_command(  # noqa: PLR0917 - click calls it, by name
    session: Session,
    /,
    name: str | None,
    template: str | None,
    driver: str | None,
    timeout_s: float | None,
    on_failure: str,
    output_format: Format,
    **asked: Any,
) -> None:
    """Create the instance NAME if it is absent, then start it: two transitions, each announced.

    An existing instance is started as it is: options about the machine are then ignored, with a warning. Without NAME,
    the instance is named after its template. Without either, the template is interlock.yaml or lima.yaml in the current
    folder, and the instance is named after the folder.

    \b
    interlock up web --template debian
    interlock up web
    interlock up ./web.yaml
    interlock up
    """
    interlock = session.interlock
    name, template = to_bring_up(session, name, template)
    session.bind(name, "up")
    ignored = _given(set(asked)) if interlock.status(name).state in EXISTING else []
    if ignored:
        session.warn(f'instance "{name}" exists and is started as it is: {", ".join(ignored)} ignored')
    given, keep = wishes(**asked), on_failure == "keep"
    with trust_proposed(click.get_current_context()):
        outcome = interlock.up(name, template, given, driver=driver, timeout_s=timeout_s, keep_on_failure=keep)
    print_result(outcome, output_format)
    session.pass_message_on(outcome)


@click.command("stop")
@names_argument
@click.option("--force", "-f", is_flag=True, help="End it at once, without asking the guest; same as kill.")
@timeout_option("How long the guest may take to shut down before it is ended by force.")
@outcome_options
@pass_session
def stop_command(session: Session, /, force: bool, timeout_s: float | None, **which: Unpack[Which]) -> None:
    """Shut instances down.

    \b
    interlock stop web
    interlock stop web db --timeout 30
    interlock stop --all
    """
    if force:
        each(session, Trigger.kill, lambda vms, name: vms.kill(name), **which)
    else:
        each(session, Trigger.stop, lambda vms, name: vms.stop(name, timeout_s=timeout_s), **which)


@click.command("kill")
@names_argument
@outcome_options
@pass_session
def kill_command(session: Session, /, **which: Unpack[Which]) -> None:
    """End the hypervisors of instances at once: what `stop --force` does.

    \b
    interlock kill web
    """
    each(session, Trigger.kill, lambda vms, name: vms.kill(name), **which)


@click.command("suspend")
@names_argument
@timeout_option("How long saving the memory may take; after that, the guest runs on.")
@outcome_options
@pass_session
def suspend_command(session: Session, /, timeout_s: float | None, **which: Unpack[Which]) -> None:
    """Save the memory of instances beside their disks, and end their hypervisors.

    The next `start` continues where the guest was; `start --cold` boots it instead.

    \b
    interlock suspend web
    interlock suspend --all
    """
    each(session, Trigger.suspend, lambda vms, name: vms.suspend(name, timeout_s=timeout_s), **which)


@click.command("restart")
@names_argument
@timeout_option("How long to wait for the guest to answer, after the stop.")
@on_failure_option
@outcome_options
@pass_session
def restart_command(session: Session, /, timeout_s: float | None, on_failure: str, **which: Unpack[Which]) -> None:
    """Stop running instances, then start them: two transitions, each announced.

    \b
    interlock restart web
    """
    keep = on_failure == "keep"
    each(
        session, Trigger.start, lambda vms, name: vms.restart(name, timeout_s=timeout_s, keep_on_failure=keep), **which
    )


@click.command("reset")
@names_argument
@outcome_options
@pass_session
def reset_command(session: Session, /, **which: Unpack[Which]) -> None:
    """Replace the disks of instances with fresh ones, made from the same image and spec.

    \b
    interlock reset web
    """
    each(session, Trigger.reset, lambda vms, name: vms.reset(name), **which)


@click.command("delete")
@names_argument
@click.option("--force", "-f", is_flag=True, help="Kill it first if it runs; remove it even if it is damaged.")
@outcome_options
@pass_session
def delete_command(session: Session, /, force: bool, **which: Unpack[Which]) -> None:
    """Remove instances and all their files.

    \b
    interlock delete web
    interlock delete web db --force
    """
    each(session, Trigger.delete, lambda vms, name: vms.delete(name, force=force), **which)


@click.command("resume")
@names_argument
@outcome_options
@pass_session
def resume_command(session: Session, /, **which: Unpack[Which]) -> None:
    """Let the paused guests of instances continue.

    A guest is paused when the host's disk is full (make room first) or by a signal; `list` says which. A guest that is
    not paused is left alone.

    \b
    interlock resume web
    """
    each(session, Trigger.resume, lambda vms, name: vms.resume(name), **which)


@click.command("provision")
@names_argument
@timeout_option("How long the scripts may take.")
@outcome_options
@pass_session
def provision_command(session: Session, /, timeout_s: float | None, **which: Unpack[Which]) -> None:
    """Re-run provisioning in running instances.

    \b
    interlock provision web --timeout 600
    """
    each(session, Trigger.provision, lambda vms, name: vms.provision(name, timeout_s=timeout_s), **which)


@click.command("protect")
@names_argument
@outcome_options
@pass_session
def protect_command(session: Session, /, **which: Unpack[Which]) -> None:
    """Protect instances from reset and delete, even with --force.

    \b
    interlock protect web
    """
    each(session, Trigger.protect, lambda vms, name: vms.protect(name), **which)


@click.command("unprotect")
@names_argument
@outcome_options
@pass_session
def unprotect_command(session: Session, /, **which: Unpack[Which]) -> None:
    """Remove the protection set by `protect`.

    \b
    interlock unprotect web
    """
    each(session, Trigger.unprotect, lambda vms, name: vms.unprotect(name), **which)


@click.command("repair")
@name_argument
@format_option
@pass_session
def repair_command(session: Session, name: str, output_format: Format) -> None:
    """Repair the instance NAME if it is damaged, and say what was wrong.

    Unreadable lines of its journal are moved to a file beside it; the state is that of the last readable line. Its
    files are made private again. If no line gives a state, none is made up, and `delete --force` is the way out.

    \b
    interlock repair web
    """
    mending = session.interlock.repair(name)
    for text in (*mending.mended, words.repaired(name, mending.state, mending.mended)):
        session.report(text)
    print_result(mending, output_format)


def _given(parameters: set[str]) -> list[str]:
    """Return those of `parameters` that were given on the command line, spelled as options."""
    context = click.get_current_context()
    return [
        param.opts[0]
        for param in context.command.params
        if param.name in parameters and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    ]
