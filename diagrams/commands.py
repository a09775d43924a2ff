"""Descriptions of the commands: the reference page, and the table for completion in shells."""

import json
from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

from click import Argument, Choice, Command, Context, Group, Option, Parameter
from click import Path as PathType

from .. import drivers
from ..cli import cli
from ..commands.help import TOPICS
from ..commands.index import COMMANDS
from ..templates.locate import builtin_names
from .formats import FORMATS
from .render import markdown_table, notice

HELP = Option(["-h", "--help"], is_flag=True, help="Show this message and exit.")
"""The help option of every command. The one that click makes depends on the context in which it was first used."""


def page() -> str:
    """Return docs/reference/commands.md: what `--help` says, in a form that no release of click can rewrap."""
    root = Context(cli, info_name="interlock")
    sections = [_command(cli, root)]
    for title, section in COMMANDS.items():
        sections.append(f"## {title}\n")
        for name in section:
            command = cli.get_command(root, name)
            sections += _commands(command, Context(command, info_name=name, parent=root)) if command else ()
    return f"# Commands\n\n{notice('cli.py` and `commands/')}\n\n" + "\n".join(sections)


def completion() -> str:
    """Return commands/completion.json: everything that can be typed, in the form that `commands.completing` reads.

    A command is {help, options, arguments}, with {commands} if it is a group; `leads` says that options end at its
    first argument. `takes` of an option is false for a flag, and null for values that a shell cannot complete.
    """
    tree = _tree(cli, Context(cli, info_name="interlock"))
    tree |= {"topics": list(TOPICS), "templates": builtin_names(), "diagrams": list(FORMATS)}
    tree["drivers"] = {"names": list(drivers.OURS), "group": drivers.GROUP}
    return json.dumps(tree, indent=1) + "\n"


def _tree(command: Command, context: Context) -> dict[str, Any]:
    summaries = {name: summary for section in COMMANDS.values() for name, (_, summary) in section.items()}
    options = [parameter for parameter in command.params if isinstance(parameter, Option)]
    tree: dict[str, Any] = {
        "help": summaries.get(command.name or "") if context.parent and not context.parent.parent else None,
        "options": [
            {
                "names": sorted([*option.opts, *option.secondary_opts]),
                "takes": False if option.is_flag or option.count else _takes(option),
                "many": option.multiple,
                "help": (option.help or "").removesuffix("."),
            }
            for option in [*options, HELP]
        ],
        "arguments": [
            {"takes": _takes(parameter), "many": parameter.nargs == -1}
            for parameter in command.params
            if isinstance(parameter, Argument)
        ],
    }
    tree["help"] = (tree["help"] or command.get_short_help_str(limit=1000)).removesuffix(".")
    if not command.context_settings.get("allow_interspersed_args", True):
        tree["leads"] = True
    if isinstance(command, Group):
        children = {name: command.get_command(context, name) for name in command.list_commands(context)}
        tree["commands"] = {
            name: _tree(child, Context(child, info_name=name, parent=context))
            for name, child in children.items()
            if child
        }
    return tree


def _takes(parameter: Parameter) -> str | tuple[str, ...] | None:
    """Return what values a parameter takes, as far as a shell can complete them."""
    match parameter.type:
        case Choice() as choice:
            return tuple(str(one) for one in choice.choices)
        case PathType() as path:
            return "file" if path.file_okay else "dir"
    takes: str | tuple[str, ...] | None = getattr(parameter.type, "completes", None)
    return takes


def _commands(command: Command, context: Context) -> Iterator[str]:
    """Yield the sections of `command` and of all commands below it."""
    yield f"### {context.command_path}\n\n{_command(command, context)}"
    if isinstance(command, Group):
        for name, child in command.commands.items():
            yield from _commands(child, Context(child, info_name=name, parent=context))


def _command(command: Command, context: Context) -> str:
    """Return usage, help and options of `command`."""
    pieces = " ".join(command.collect_usage_pieces(context))
    help_text = cleandoc(command.help or "")
    # \b begins a paragraph that must not be rewrapped: an example.
    paragraphs = [
        "```\n" + paragraph.removeprefix("\b\n") + "\n```" if paragraph.startswith("\b") else paragraph
        for paragraph in help_text.split("\n\n")
    ]
    options = [_option(parameter) for parameter in command.params if isinstance(parameter, Option)]
    table = f"\n\n{markdown_table(('option', 'default', 'meaning'), options)}" if options else "\n"
    return f"`{context.command_path} {pieces}`\n\n" + "\n\n".join(paragraphs) + table


def _option(option: Option) -> tuple[str, str, str]:
    names = ", ".join(option.opts)
    if isinstance(option.type, Choice):
        names += f" {'/'.join(option.type.choices)}"
    elif not option.is_flag:
        names += f" {option.metavar or option.type.name.upper()}"
    default = option.default if option.show_default else ""
    return f"`{names}`", f"`{default}`" if default else "", option.help or ""
