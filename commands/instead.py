"""Names that people know from other programs: those that work here, and what to type instead of the others.

A name works if it means elsewhere exactly what a command does here; `meaning` rewrites it to that command, so messages,
hints and completion only know real names. Any other word gets a hint: by its meaning if it is a word of another program
(limactl, docker, multipass, virsh), or by similar spelling if it is a typo. A command that moves an instance or
destroys something is never proposed because of its spelling: `status` is not `start`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

SAME = {
    "ls": "list",
    "ps": "list --filter state=running",
    "status": "list",
    "info": "inspect",
    "rm": "delete",
    "down": "stop",
    "exec": "run",
    "ssh": "shell",
    "cp": "copy",
    "images": "image list",
    "templates": "template list",
    "version": "--version",
}
"""Word of another program → the command that it means here; `meaning` handles the flags that are typed with it."""

SAME_IN_GROUP = {"ls": "list", "rm": "delete", "cp": "copy", "info": "inspect"}
"""The same for the groups of commands about images, disks and templates, if the group has such a command."""

REMARKS = {
    "ls": "-a and -l have no effect",
    "ps": "with -a: list",
    "exec": "with -t, as in -it: shell",
    "ssh": "the guest's sh runs COMMAND, as with ssh",
}
"""Remarks of `help names` about some of them."""

INSTEAD = {
    "show": "inspect",
    "describe": "inspect",
    "log": "logs",
    "console": "logs",
    "events": "watch",
    "monitor": "watch",
    "enter": "shell",
    "attach": "shell",
    "connect": "shell",
    "new": "create",
    "launch": "up",
    "boot": "start",
    "halt": "stop",
    "poweroff": "stop",
    "shutdown": "stop",
    "destroy": "kill",
    "reboot": "restart",
    "reload": "restart",
    "pause": "suspend",
    "managedsave": "suspend",
    "stats": "top",
    "mv": "rename",
    "domrename": "rename",
    "remove": "delete",
    "undefine": "delete",
    "purge": "delete",
    "system": "prune",
    "unpause": "resume",
    "continue": "resume",
    "factory-reset": "reset",
    "lock": "protect",
    "unlock": "unprotect",
    "fix": "repair",
    "check": "doctor",
    "build": "image build",
    "disks": "disk list",
    "volume": "disk list",
    "validate": "template validate",
    "graph": "diagram",
    "scp": "copy",
    "transfer": "copy",
    "show-ssh": "ssh-config",
    "set": "edit",
    "setmem": "edit",
    "setvcpus": "edit",
    "get": "inspect",
    "dominfo": "inspect",
    "domstate": "list",
    "domifaddr": "list",
    "dumpxml": "inspect",
    "port": "inspect",
    "define": "create",
    "virt-install": "create",
    "global-status": "list",
    "find": "template list",
    "search": "template list",
    "box": "image list",
    "pull": "image import",
    "pool-list": "disk list",
    "vol-list": "disk list",
    "commit": "snapshot create",
    "snapshot-create": "snapshot create",
    "snapshot-list": "snapshot list",
    "snapshot-revert": "snapshot restore",
    "snapshot-delete": "snapshot delete",
    "nodeinfo": "doctor",
    "start-at-login": "autostart enable",
    "completion": "help completion",
}
"""Word of another program → what to type here, if the meaning is not quite the same or the transition differs."""

INSTEAD_IN_GROUP = {"remove": "delete", "show": "inspect", "check": "validate", "cat": "show", "grow": "resize",
                    "new": "create", "pull": "import", "add": "import", "save": "create", "apply": "restore",
                    "revert": "restore"}  # fmt: skip
"""The same for the commands about images, disks and templates; a group that has no such command gets its help."""

DESTROYS = frozenset({"delete", "prune"})
"""Commands of groups that are never proposed because of their spelling."""


def meaning(words: Sequence[str]) -> list[str] | None:
    """Return the command line that `words` mean here; None unless they begin with a name that works."""
    word, *rest = words
    match word:
        case "ls":
            _, rest = _leading("al", rest)
        case "ps":
            flags, rest = _leading("a", rest)
            if "a" in flags:
                return ["list", *rest]
        case "exec":
            flags, rest = _leading("it", rest)
            if "t" in flags:
                return ["shell", *rest]
        case "ssh":
            _, rest = _leading("t", rest)
            if len(rest) > 1 and not rest[0].startswith("-"):
                name, *command = rest
                return ["shell", name, "--", "sh", "-c", " ".join(command[command[0] == "--" :])]
    return [*SAME[word].split(), *rest] if word in SAME else None


def meaning_in_group(words: Sequence[str], group: "click.Group") -> list[str] | None:
    """Return what `meaning` returns, for a command of `group`."""
    meant = SAME_IN_GROUP.get(words[0], "")
    return [meant, *words[1:]] if meant in group.commands else None


def _leading(letters: str, words: Sequence[str]) -> tuple[set[str], list[str]]:
    """Return those of the flags `letters` that come before the first name in `words`, and `words` without them.

    For example, `-aq` without `a` is `-q`.
    """
    flags: set[str] = set()
    kept: list[str] = []
    for number, word in enumerate(words):
        if not word.startswith("-") or word == "--":
            return flags, [*kept, *words[number:]]
        if word.startswith("--"):
            kept.append(word)
            continue
        flags |= set(word[1:]) & set(letters)
        if others := "".join(letter for letter in word[1:] if letter not in letters):
            kept.append(f"-{others}")
    return flags, kept


def proposal(ctx: "click.Context", group: "click.Group", args: Sequence[str], movers: Sequence[str] = ()) -> str:
    """Return the command line to type instead of `args`, whose first word is not a command of `group`.

    The words after it are kept if they can be parsed. `movers` are never proposed because of their spelling.
    """
    import shlex

    word, *rest = args
    known = [
        name for name in group.list_commands(ctx) if name not in movers and (not ctx.parent or name not in DESTROYS)
    ]
    meant = INSTEAD.get(word) if ctx.parent is None else INSTEAD_IN_GROUP.get(word)
    if word == "destroy" and {"-f", "--force"} & set(rest) and ctx.parent is None:
        meant, rest = "delete --force", [it for it in rest if it not in ("-f", "--force")]  # vagrant's
    if meant is None or (ctx.parent and meant not in group.list_commands(ctx)):
        from difflib import get_close_matches

        meant = next(iter(get_close_matches(word, known, n=1, cutoff=0.7)), "--help")
    words = meant.split()
    if words[-1] != "--help":
        rest = _launched(rest) if word == "launch" else _set(rest) if word == "set" else rest
        words += rest if _parses(ctx, group, [*words, *rest]) else ["--help"]
    return shlex.join([*ctx.command_path.split(), *words])


def _launched(words: Sequence[str]) -> list[str]:
    """Return the arguments of `up` for those of `launch`: IMAGE NAME (incus), IMAGE --name NAME (multipass)."""
    match words:
        case [image, "--name" | "-n", name] | ["--name" | "-n", name, image] | [image, name] if image[:1] != "-":
            return [name, "--template", _template(image)]
        case [image] if image[:1] != "-":
            return ["--template", _template(image)]
    return list(words)


def _set(words: Sequence[str]) -> list[str]:
    """Return the arguments of `edit` for those of Multipass's `set`: `local.NAME.KEY=VALUE`."""
    import re

    found = re.fullmatch(r"local\.([^.=]+)\.(cpus|memory|disk)=(.+)", words[0]) if len(words) == 1 else None
    return [found[1], f"--{found[2]}", found[3]] if found else [*words, "--help"]


def _template(image: str) -> str:
    """Return the template for an image of Multipass, which names those of Ubuntu by number only."""
    return f"ubuntu-{image}" if image[:1].isdigit() else image


def _parses(ctx: "click.Context", group: "click.Group", args: Sequence[str]) -> bool:
    """True if `args` are a valid command line for a command of `group`. Nothing is done."""
    import click

    name, *rest = args
    command = group.get_command(ctx, name)
    if isinstance(command, click.Group):
        return bool(rest) and _parses(click.Context(command, parent=ctx, info_name=name), command, rest)
    try:
        return bool(command and command.make_context(name, rest, parent=ctx))
    except (click.ClickException, click.exceptions.Exit):
        return False
