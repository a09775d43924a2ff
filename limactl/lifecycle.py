"""The commands that change an instance. A `start` of an existing instance is one transition; the deprecated forms of
`start`, which create the instance first, are two transitions, and both are announced."""

import shlex
from typing import TYPE_CHECKING

from ..errors import DegradedError, UntrustedTemplateError, UsageError
from .facts import state
from .session import DEFAULT
from .templates import DEFAULT_TEMPLATE, edits, locator, names_instance

if TYPE_CHECKING:
    from ..fsm.records import Status
    from .flags import Call
    from .session import Session


def create(session: "Session", call: "Call") -> int:
    """Create an instance from a template; a bare name is not accepted as a template."""
    if _listed(session, call):
        return 0
    template, name = _asked(session, call)
    if template is None:
        if call.arguments:
            raise UsageError(f"`{name}` names no template. Use `limactl create --name={name} template:default` instead")
        template = DEFAULT_TEMPLATE
    _create(session, call, name, template)
    session.stderr.info(f"Run `limactl start {name}` to start the instance.")
    return 0


def start(session: "Session", call: "Call") -> int:
    """Start an existing instance, or create one from the named template and start it."""
    if _listed(session, call):
        return 0
    template, name = _asked(session, call)
    exists = session.vms.status(name).exists
    if template is None and not exists and not call.arguments and not call.flags.get("name"):
        template = DEFAULT_TEMPLATE  # `limactl start` alone: without a name there is no typing mistake to catch
    if template is not None:
        _check_absent(session, name)
        session.stderr.warning(
            f"`limactl start` of a template creates `{name}`, then starts it: two transitions, as "
            f"`limactl create` and `limactl start {name}`"
        )
        _create(session, call, name, template)
    else:
        session.existing(name)
        given = [f"--{flag}" for flag in call.flags if flag in _OF_CREATE]
        if given:
            raise UsageError(
                f"instance `{name}` exists, and {', '.join(given)} would change it; "
                f"`limactl edit {name}` does that, and `limactl start {name}` starts it as it is"
            )
        session.stderr.info(f"Using the existing instance `{name}`")
    return _start(session, call, name)


_OF_CREATE = frozenset({
    "cpus", "memory", "disk", "mount", "mount-only", "mount-none", "mount-type", "network",
    "nested-virt", "dns", "ssh-port", "param", "set", "arch", "containerd", "vm-type", "plain", "port-forward",
})  # fmt: skip


def stop(session: "Session", call: "Call") -> int:
    """Stop a running instance; with --force, kill an instance in any state."""
    name = _name(call)
    status = session.existing(name)
    if call.flags.get("force"):
        session.vms.kill(name)
    elif state(status) != "Running":
        raise UsageError(f'expected status "Running", got "{state(status)}" (maybe use `limactl stop -f`?)')
    else:
        session.vms.stop(name)
    return 0


def restart(session: "Session", call: "Call") -> int:
    """Stop an instance if it runs, change it as the flags say, then start it. Invalid flags leave it running."""
    from ..api import Interlock

    name = _name(call)
    running = state(session.existing(name)) == "Running"
    if changes := edits(call.flags):
        Interlock(session.lima.home, dry_run=True).edit(name, *changes)
    if not running:
        session.stderr.warning("The instance is not running, continuing with the restart")
    elif call.flags.get("force"):
        session.vms.kill(name)
    else:
        session.vms.stop(name)
    _change(session, call, name)
    return _start(session, call, name)


def delete(session: "Session", call: "Call") -> int:
    """Delete instances; for an unknown name, only print a warning."""
    for name in call.arguments:
        status = session.vms.status(name)
        if not status.exists:
            session.lima.check_free(name)
            session.stderr.warning(f"Ignoring non-existent instance `{name}`")
            continue
        if status.protected:
            raise UsageError(
                f"failed to delete instance `{name}`: instance is protected to prohibit accidental removal "
                "(Hint: use `limactl unprotect`)"
            )
        session.vms.delete(name, force=bool(call.flags.get("force")))
        session.lima.remove(name)
    return 0


def factory_reset(session: "Session", call: "Call") -> int:
    """Discard everything that the guest of an instance wrote; a running instance is killed first, as limactl does."""
    name = _name(call)
    status = session.vms.status(name)
    if not status.exists:
        session.stderr.info(f"Instance `{name}` not found")
        return 0
    if state(status) == "Running":
        session.vms.kill(name)
    session.vms.reset(name)
    session.stderr.info(f"Instance `{name}` has been factory reset")
    return 0


def protect(session: "Session", call: "Call") -> int:
    """Protect instances from removal."""
    for name in call.arguments:
        if session.existing(name).protected:
            session.stderr.warning(f"Instance `{name}` is already protected. Skipping.")
            continue
        session.vms.protect(name)
        session.lima.refresh(session.vms.status(name), session.vms)
        session.stderr.info(f"Protected `{name}`")
    return 0


def unprotect(session: "Session", call: "Call") -> int:
    """Remove the protection of instances."""
    for name in call.arguments:
        if not session.existing(name).protected:
            session.stderr.warning(f"Instance `{name}` isn't protected. Skipping.")
            continue
        session.vms.unprotect(name)
        session.lima.refresh(session.vms.status(name), session.vms)
        session.stderr.info(f"Unprotected `{name}`")
    return 0


def clone(session: "Session", call: "Call") -> int:
    """Make a copy of a stopped instance."""
    name, new = call.arguments
    original = session.existing(name)
    session.lima.check_free(new)
    session.vms.clone(name, new)
    session.lima.clone(original, session.vms.status(new))
    return _edited(session, call, new)


def rename(session: "Session", call: "Call") -> int:
    """Rename a stopped instance."""
    name, new = call.arguments
    session.existing(name)
    session.lima.check_free(new)
    session.vms.rename(name, new)
    session.lima.move(name, session.vms.status(new))
    session.lima.refresh(session.vms.status(new), session.vms)
    return _edited(session, call, new)


def edit(session: "Session", call: "Call") -> int:
    """Change the processors or the memory of an instance, or make its disk larger."""
    name = _name(call)
    if not names_instance(name):
        raise UsageError(f"{name} is a file; change it with an editor, and check it: `limactl validate {name}`")
    if state(session.existing(name)) == "Running":
        raise UsageError(f"cannot edit a running instance; stop it first: `limactl stop {name}`")
    if edits(call.flags):
        return _edited(session, call, name)
    example = f"`limactl edit --cpus=4 --memory=8 {name}`"
    if session.tty:
        raise UsageError(f"there is no editor here; say what is to change: {example}")
    session.stderr.info(f"Aborting, no changes made to the instance; say what is to change: {example}")
    return 0


def prune(session: "Session", call: "Call") -> int:  # noqa: ARG001 - all commands have the same parameters
    """Remove the images that no instance uses."""
    session.stderr.info(f"Pruning `{session.lima.home.images}`")
    session.vms.prune(session.vms.unneeded(["image", "download"]), session.stderr.info)
    return 0


def _edited(session: "Session", call: "Call", name: str) -> int:
    """Change `name` as the flags say, and start it if a flag or the user asks for that."""
    _change(session, call, name)
    return _start(session, call, name) if session.starts_now(call) else 0


def _change(session: "Session", call: "Call", name: str) -> None:
    if changes := edits(call.flags):
        if not session.vms.edit(name, *changes).changed:
            session.stderr.info("Aborting, no changes made to the instance")
            return
        session.lima.edit(session.vms.status(name), session.vms.templates, changes)


def _name(call: "Call") -> str:
    return call.arguments[0] if call.arguments else DEFAULT


def _listed(session: "Session", call: "Call") -> bool:
    """Print the templates or drivers if a flag asks for them, and return whether one did."""
    from ..commands.stdout import write

    if call.flags.get("list-templates"):
        write("".join(f"{name}\n" for name in session.vms.templates.list()))
        return True
    if call.flags.get("list-drivers"):
        write("qemu\n")
        return True
    return False


def _asked(session: "Session", call: "Call") -> tuple[str | None, str]:
    """Return the template that the command line names, or None, and the name of the instance."""
    argument, name = (call.arguments or (None,))[0], call.flags.get("name")
    if argument is None:
        return None, name or DEFAULT
    if names_instance(argument):
        if name is not None and name != argument:
            raise UsageError(f"instance name `{argument}` and CLI flag --name=`{name}` cannot be specified together")
        return None, argument
    if argument == "-" and name is None:
        raise UsageError("must pass instance name with --name when reading template from stdin")
    return locator(argument), name or session.vms.templates.instance_name(argument.replace("template://", "template:"))


def _create(session: "Session", call: "Call", name: str, template: str) -> None:
    """Create `name`; raises UsageError if the name is taken, or if a server's template asks for access to this host."""
    vms, lima = session.vms, session.lima
    _check_absent(session, name)
    if not session.tty:
        session.stderr.info("Terminal is not available, proceeding without opening an editor")
    _check_config(session)
    loaded = vms.templates.resolve(template, edits(call.flags))
    try:
        vms.create(name, loaded, driver=call.flags.get("vm-type"))
    except UntrustedTemplateError as error:
        copied = shlex.join([template, f"{name}.yaml"])
        raise UsageError(
            f"{template} comes from a server and asks for access to this host; read it, then create from the copy",
            details=error.details,
            hint=f"limactl template copy --embed-all {copied} && limactl create {name}.yaml",
        ) from error
    lima.write(vms.status(name), vms.templates.dump(loaded))


def _check_absent(session: "Session", name: str) -> None:
    """Raise UsageError if there is an instance `name`, ours or Lima's own."""
    session.lima.check_free(name)
    if session.vms.status(name).exists:
        raise UsageError(f'instance `{name}` already exists ("{session.lima.directory(name)}")')


def _check_config(session: "Session") -> None:
    """Raise UsageError if there are settings for all instances, which would be ignored."""
    for name in ("default", "override", "base", "networks"):
        path = session.lima.root / "_config" / f"{name}.yaml"
        if path.exists() and path.read_text().strip():
            raise UsageError(
                f"{path} is not read by this limactl: write what it says into the template, or into "
                f"{session.lima.home.defaults}, and remove it"
            )


def _start(session: "Session", call: "Call", name: str) -> int:
    """Start `name`, waiting for a start that is under way, and report how to use it."""
    vms, lima = session.vms, session.lima
    status = vms.status(name)
    if lima.was_edited(status):
        session.stderr.warning(
            f"`{lima.directory(name)}/lima.yaml` was changed after `{name}` was created; "
            "the instance starts as it was created"
        )
    session.stderr.info(f"To watch the boot progress, see `{lima.directory(name)}/serial*.log`")
    try:
        vms.start(name, timeout_s=call.flags.get("timeout"))
    except DegradedError:
        lima.refresh(vms.status(name), vms)
        raise
    status = vms.status(name)
    lima.refresh(status, vms)
    session.stderr.info(f"READY. Run `{_shell_of(name)}` to open the shell.")
    _pass_message_on(session, status)
    return 0


def _shell_of(name: str) -> str:
    return "lima" if name == DEFAULT else f"limactl shell {name}"


def _pass_message_on(session: "Session", status: "Status") -> None:
    if status.spec and status.spec.message:
        session.stderr.info(f"Message from the instance `{status.name}`:\n{status.spec.message.rstrip()}")
