"""`--help` of the drop-in, in limactl's format."""

from collections.abc import Sequence

from ..errors import UsageError
from .commands import COMMANDS
from .flags import GLOBAL, Call, Command, Flag


def help_text(call: Call) -> str:
    """Return the help of the command; for the program or a group, the list of its commands."""
    name, command = " ".join(filter(None, ("limactl", call.name))), call.command
    text = f"{command.summary or 'Lima: Linux virtual machines, by Interlock'}\n\nUsage:\n  {name} {command.form}\n"
    if not command.does:
        place = COMMANDS.get(call.name, COMMANDS)
        if isinstance(place, Command):
            raise UsageError(f'unknown command "{call.name}" for "limactl"')
        lines = [(word, it.summary if isinstance(it, Command) else ", ".join(it)) for word, it in place.items()]
        text += "\nCommands:\n" + "".join(f"  {word:<16}{summary}\n" for word, summary in lines)
    return text + _flags("Flags", command.flags) + _flags("Global Flags", GLOBAL)


def _flags(title: str, flags: Sequence[Flag]) -> str:
    lines = [(f"-{it.short}, " if it.short else "    ") + f"--{it.name}" for it in flags if not it.refused]
    texts = [it.help for it in flags if not it.refused]
    shown = "".join(f"  {line:<26}{text}\n" for line, text in zip(lines, texts, strict=True))
    return f"\n{title}:\n{shown}" if shown else ""
