"""What to type instead of a command that does not exist: loaded only when somebody has typed one.

A hint is proposed by meaning, for the words of other programs (limactl, docker, multipass, virsh), or by similar
letters, for slips of the finger. By similar letters no transition is ever proposed: `status` is not `start`.
"""

import shlex
from collections.abc import Sequence

import click

INSTEAD = {
    "ls": "list",
    "ps": "list",
    "status": "list",
    "top": "list",
    "info": "inspect",
    "show": "inspect",
    "describe": "inspect",
    "log": "logs",
    "console": "logs",
    "events": "watch",
    "monitor": "watch",
    "exec": "shell",
    "ssh": "shell",
    "enter": "shell",
    "attach": "shell",
    "connect": "shell",
    "new": "create",
    "launch": "up",
    "boot": "start",
    "down": "stop",
    "halt": "stop",
    "poweroff": "stop",
    "shutdown": "stop",
    "destroy": "kill",
    "reboot": "restart",
    "rm": "delete",
    "mv": "rename",
    "domrename": "rename",
    "remove": "delete",
    "undefine": "delete",
    "purge": "delete",
    "unpause": "resume",
    "continue": "resume",
    "factory-reset": "reset",
    "lock": "protect",
    "unlock": "unprotect",
    "fix": "repair",
    "check": "doctor",
    "images": "image list",
    "build": "image build",
    "prune": "image prune",
    "disks": "disk list",
    "volume": "disk list",
    "templates": "template list",
    "validate": "template validate",
    "graph": "diagram",
    "cp": "copy",
    "scp": "copy",
    "version": "--version",
}
"""A word of another program's → the command that does the same here; a test types them all."""

INSTEAD_IN_GROUP = {"ls": "list", "rm": "delete", "remove": "delete", "show": "inspect", "info": "inspect",
                    "cp": "copy", "check": "validate", "cat": "show", "grow": "resize", "new": "create",
                    "pull": "import", "add": "import"}  # fmt: skip
"""The same for the commands about images, disks and templates; a group that has no such command gets its help."""


def proposal(ctx: click.Context, group: click.Group, args: Sequence[str], movers: Sequence[str] = ()) -> str:
    """Return the command line to type instead of `args`, whose first is no command of `group`.

    What was typed after it is kept if that can be parsed. `movers` are never proposed for their letters.
    """
    word, *rest = args
    known = [name for name in group.list_commands(ctx) if name not in movers]
    meant = INSTEAD.get(word) if ctx.parent is None else INSTEAD_IN_GROUP.get(word)
    if meant is None or (ctx.parent and meant not in known):
        from difflib import get_close_matches

        meant = next(iter(get_close_matches(word, known, n=1, cutoff=0.7)), "--help")
    words = meant.split()
    if words[-1] not in ("--help", "--version"):
        words += rest if _parses(ctx, group, [*words, *rest]) else ["--help"]
    return shlex.join([*ctx.command_path.split(), *words])


def _parses(ctx: click.Context, group: click.Group, args: Sequence[str]) -> bool:
    """True when `args` are a command of `group` with what it needs. Nothing is done."""
    name, *rest = args
    command = group.get_command(ctx, name)
    if isinstance(command, click.Group):
        return bool(rest) and _parses(click.Context(command, parent=ctx, info_name=name), command, rest)
    try:
        return bool(command and command.make_context(name, rest, parent=ctx))
    except (click.ClickException, click.exceptions.Exit):
        return False
