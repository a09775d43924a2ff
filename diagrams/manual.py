"""The manual pages, one for each command, from the same help as the reference. Source: man(7)."""

import re
from collections.abc import Iterator
from inspect import cleandoc
from textwrap import wrap

from click import Choice, Command, Context, Group, Option

from ..cli import cli
from ..commands.help import ENVIRONMENT, exit_codes
from ..commands.index import COMMANDS
from ..version import __version__
from .commands import HELP

SECTION = 1
"""User commands."""

Page = list[str]
"""The lines of a page."""


def every(command: Command, context: Context) -> Iterator[tuple[Command, Context]]:
    """Yield `command` and all commands below it, each with its context."""
    yield command, context
    if isinstance(command, Group):
        for name in command.list_commands(context):
            if child := command.get_command(context, name):
                yield from every(child, Context(child, info_name=name, parent=context))


def page(name: str) -> str:
    """Return the page `name`, which is one of NAMES."""
    return _page(*_PAGES[name])


def _title(context: Context) -> str:
    return context.command_path.replace(" ", "-")


def _page(command: Command, context: Context) -> str:
    described: Page = []
    examples: Page = []
    for paragraph in cleandoc(command.help or "").split("\n\n"):
        literal = paragraph.removeprefix("\b\n")
        if literal == paragraph:
            described += [".PP", *_prose(paragraph)]
        else:
            (examples if literal.startswith("interlock ") else described).extend(_literal(literal))
    lines = [
        '.\\" Generated from the help of the command; do not edit.',
        f'.TH {_title(context).upper().replace("-", chr(92) + "-")} {SECTION} "" "Interlock {__version__}" "Interlock"',
        ".SH NAME",
        f"{_escaped(_title(context))} \\- {_escaped(_summary(command, context))}",
        ".SH SYNOPSIS",
        f".B {_escaped(context.command_path)}",
        _escaped(" ".join(command.collect_usage_pieces(context))),
        *_section("DESCRIPTION", described),
        *_options(command),
        *_commands(command, context),
        *_section("EXAMPLES", examples),
    ]
    if context.parent is None:
        lines += [*_section("ENVIRONMENT", _literal(ENVIRONMENT)), *_section("EXIT STATUS", _literal(exit_codes()))]
    lines += [*_section("SEE ALSO", [_see_also(command, context)])]
    return "\n".join(lines) + "\n"


def _section(title: str, lines: Page) -> Page:
    return [f".SH {title}", *lines[lines[0] == ".PP" :]] if lines else []


def _summary(command: Command, context: Context) -> str:
    """Return the one-line summary of the page, without the full stop."""
    summaries = {name: summary for section in COMMANDS.values() for name, (_, summary) in section.items()}
    top = context.parent is not None and context.parent.parent is None
    summary = summaries[str(context.info_name)] if top else command.get_short_help_str(limit=1000)
    return summary.removesuffix(".")


def _options(command: Command) -> Page:
    options = [param for param in command.params if isinstance(param, Option)]
    return _section("OPTIONS", [line for option in [*options, HELP] for line in _option(option)])


def _option(option: Option) -> Page:
    names = ", ".join(f"\\fB{_escaped(name)}\\fR" for name in sorted(option.opts, key=lambda name: (len(name), name)))
    if isinstance(option.type, Choice):
        names += f" {_escaped('|'.join(map(str, option.type.choices)))}"
    elif not (option.is_flag or option.count):
        names += f" \\fI{_escaped(option.metavar or option.type.name.upper())}\\fR"
    text = option.help or ""
    if option.show_default and option.default is not None:
        text = f"{text} Default: {option.default}.".strip()
    return [".TP", names, *_prose(text)]


def _commands(command: Command, context: Context) -> Page:
    children = {str(below.info_name): (child, below) for child, below in _below(command, context)}
    if context.parent:
        return _section("COMMANDS", [line for name in children for line in _entry(*children[name])])
    return _section(
        "COMMANDS",
        [
            line
            for title, section in COMMANDS.items()
            for line in (f".SS {title}", *(line for name in section for line in _entry(*children[name])))
        ],
    )


def _below(command: Command, context: Context) -> list[tuple[Command, Context]]:
    return [(child, below) for child, below in every(command, context) if below.parent is context]


def _entry(command: Command, context: Context) -> Page:
    return [".TP", f"\\fB{_escaped(str(context.info_name))}\\fR", *_prose(_summary(command, context))]


def _see_also(command: Command, context: Context) -> str:
    above = [_title(context.parent)] if context.parent else []
    names = [*above, *(_title(below) for _, below in _below(command, context))]
    return ",\n".join(f"\\fB{_escaped(name)}\\fR({SECTION})" for name in names)


def _literal(text: str) -> Page:
    return [".PP", ".RS 4", ".nf", *(_guarded(_escaped(line)) for line in text.rstrip("\n").split("\n")), ".fi", ".RE"]


def _prose(paragraph: str) -> Page:
    """Return the lines of a paragraph, which the viewer wraps."""
    bold = re.sub("`([^`]+)`", r"\\fB\1\\fR", _escaped(" ".join(paragraph.split())))
    return [_guarded(line) for line in wrap(bold, 78, break_on_hyphens=False)]


def _guarded(line: str) -> str:
    """Return `line`, escaped so that a dot or an apostrophe at its beginning does not make it a request."""
    return f"\\&{line}" if line[:1] in (".", "'") else line


def _escaped(text: str) -> str:
    """Return `text`, escaped so that it is printed as it is, with plain hyphens. Source: groff_char(7)."""
    return text.replace("\\", "\\e").replace("-", "\\-")


_ROOT = Context(cli, info_name="interlock")
_PAGES = {f"{_title(context)}.{SECTION}": (command, context) for command, context in every(cli, _ROOT)}

NAMES = tuple(_PAGES)
"""The names of the pages."""
