"""Parses a command line as limactl does: global flags anywhere, flags before and after arguments.

    --name VALUE   --name=VALUE   -n VALUE   -nVALUE   --switch   --switch=false   --   (no flags after this)

Source: the documentation of spf13/pflag and spf13/cobra, and limactl's error messages.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from ..errors import UsageError


class Flag(NamedTuple):
    """One flag of a command."""

    name: str
    help: str
    kind: str = "string"
    """`bool`, `string`, `strings` (may be repeated, and separated by commas), `texts` (may be repeated), `int`, `float`
    or `duration`."""
    short: str = ""
    refused: str = ""
    """Why a flag of limactl's is refused here; empty if it is supported."""
    values: tuple[str, ...] = ()
    """The values that completion offers for it."""


class Command(NamedTuple):
    """One command, as data."""

    usage: str
    """The arguments after its name."""
    summary: str
    does: str
    """`module:function` of this package."""
    flags: tuple[Flag, ...] = ()
    least: int = 0
    most: int | None = None
    aliases: tuple[str, ...] = ()
    passes_on: bool = False
    """True when everything after the first argument belongs to another command."""

    @property
    def form(self) -> str:
        """The arguments after its name, with `[flags]`, as limactl prints them."""
        return self.usage if "[flags]" in self.usage else f"{self.usage} [flags]".lstrip()


class Call(NamedTuple):
    """A parsed command line."""

    name: str
    """The name of the command, after that of its group: `disk create`."""
    command: Command
    arguments: tuple[str, ...]
    flags: Mapping[str, Any]
    """The given flags, by name."""


GLOBAL = (
    Flag("debug", "Debug mode", "bool"),
    Flag("help", "Help for this command", "bool", "h"),
    Flag("log-format", "Set the logging format [text, json]", values=("text", "json")),
    Flag(
        "log-level",
        "Set the logging level [trace, debug, info, warn, error]",
        values=("trace", "debug", "info", "warn", "error"),
    ),
    Flag("tty", "Ask questions; the default if stdout is a terminal. Set to false for automation.", "bool"),
    Flag("version", "Version for limactl", "bool", "v"),
    Flag("yes", "Alias of --tty=false", "bool", "y"),
)

_GROUPS = {"tmpl": "template"}
"""Alias → the name of the group."""

_SWITCH = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
_DURATION = r"(\d+(?:\.\d+)?)(ms|h|m|s)"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def read(
    words: Sequence[str],
    commands: Mapping[str, Mapping[str, Command] | Command],
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> Call:
    """Return the command line `words` as a call of one of `commands`; raises UsageError, worded as by limactl.

    Without a command, the call's name is empty, or that of a group. `elsewhere`: unsupported command → what to do.
    """
    reading = _Reading(list(words))
    place: Mapping[str, Mapping[str, Command] | Command] | Command = commands
    path: list[str] = []
    while not isinstance(place, Command):
        word = reading.word()
        if word is None:
            return Call(" ".join(path), _GROUP, (), reading.given)
        if word == "help" and not path:
            reading.given["help"] = True
            continue
        name = named(word, place)
        if name is None and not path and word in elsewhere:
            raise UsageError(f"`limactl {word}` is not supported by this limactl: {elsewhere[word]}")
        if name is None:
            raise UsageError(f'unknown command "{word}" for "{" ".join(["limactl", *path])}"')
        path.append(name)
        place = place[name]
    arguments = reading.rest(place)
    call = Call(" ".join(path), place, tuple(arguments), reading.given)
    if not reading.given.get("help"):
        _check(call)
    return call


_GROUP = Command("[command]", "", "")


def named(word: str, commands: Mapping[str, Mapping[str, Command] | Command]) -> str | None:
    """Return the name of the command whose name or alias is `word`; None if there is no such command."""
    name = _GROUPS.get(word, word)
    if name in commands:
        return name
    return next(
        (it for it, command in commands.items() if isinstance(command, Command) and word in command.aliases), None
    )


class _Reading:
    """A command line, read from left to right."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.given: dict[str, Any] = {}
        self.flags = {flag.name: flag for flag in GLOBAL}

    def word(self) -> str | None:
        """Return the next word that is not a flag."""
        while self.words:
            word = self.words.pop(0)
            if word == "--":
                return self.words.pop(0) if self.words else None
            if not word.startswith("-") or word == "-":
                return word
            self._flag(word)
        return None

    def rest(self, command: Command) -> list[str]:
        """Return the arguments of `command`; its flags are parsed."""
        del self.flags["version"]  # only the program has it; -v is --verbose for some commands
        self.flags.update({flag.name: flag for flag in command.flags})
        arguments: list[str] = []
        while self.words:
            word = self.words.pop(0)
            if word == "--":
                return arguments + self.words
            if command.passes_on and arguments and not (self._names_instance(arguments) and self._is_known(word)):
                return [*arguments, word, *self.words]
            if word.startswith("-") and word != "-":
                self._flag(word)
            else:
                arguments.append(word)
        return arguments

    def _names_instance(self, arguments: list[str]) -> bool:
        """Return whether the only word in `arguments` names an instance, rather than a command for the guest."""
        return len(arguments) == 1 and "instance" not in self.given

    def _is_known(self, word: str) -> bool:
        """Return whether `word` is a long flag of the command; it may stand after the instance's name, too."""
        return word.startswith("--") and word[2:].partition("=")[0] in self.flags

    def _flag(self, word: str) -> None:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            flag = self.flags.get(name)
            if flag is None:
                raise UsageError(f"unknown flag: --{name}")
            self._take(flag, value if equals else None, f"--{name}")
            return
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            flag = next((it for it in self.flags.values() if it.short == letter), None)
            if flag is None:
                raise UsageError(f"unknown shorthand flag: '{letter}' in -{letter}{letters}")
            if flag.kind == "bool" and not letters.startswith("="):
                self._take(flag, None, f"-{letter}")
            else:
                self._take(flag, letters.removeprefix("=") if letters else None, f"-{letter}, --{flag.name}")
                return

    def _take(self, flag: Flag, value: str | None, typed: str) -> None:
        if value is None and flag.kind == "bool":
            value = "true"
        if value is None:
            if not self.words:
                raise UsageError(f"flag needs an argument: {typed}")
            value = self.words.pop(0)
        if flag.refused:
            raise UsageError(f"`--{flag.name}`: {flag.refused}")
        try:
            read_value = _KINDS[flag.kind](value)
        except (ValueError, KeyError) as error:
            raise UsageError(f'invalid argument "{value}" for "{typed}" flag: expected a {flag.kind}') from error
        if flag.kind in ("strings", "texts"):
            self.given.setdefault(flag.name, []).extend(read_value)
        else:
            self.given[flag.name] = read_value


def _duration_s(text: str) -> float:
    parts = re.findall(_DURATION, text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(text)
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


_KINDS: dict[str, Callable[[str], Any]] = {
    "bool": _SWITCH.__getitem__,
    "string": str,
    "strings": lambda text: text.split(","),
    "texts": lambda text: [text],
    "int": int,
    "float": float,
    "duration": _duration_s,
}


def _check(call: Call) -> None:
    """Raise UsageError if the command does not take this number of arguments."""
    command, given = call.command, len(call.arguments)
    if given < command.least:
        wrong = f"requires at least {command.least} arg(s), only received {given}"
    elif command.most is not None and given > command.most:
        wrong = f"accepts at most {command.most} arg(s), received {given}"
    else:
        return
    name = f"limactl {call.name}"
    raise UsageError(f"\"{name}\" {wrong}.\nSee '{name} --help'.\n\nUsage:  {name} {command.form}\n\n{command.summary}")
