"""Messages on stderr in the format of logrus, which limactl uses and its embedders parse.

    time="2026-03-01T14:02:59+01:00" level=info msg="Run `limactl start web` to start the instance."
    {"level":"info","msg":"...","time":"..."}
    INFO[0000] Run `limactl start web` to start the instance.          on a terminal

Source: the documentation of sirupsen/logrus, and what limactl prints.
"""

import json
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

from ..commands.terminal import printable, styled
from ..errors import UsageError

LEVELS = ("trace", "debug", "info", "warning", "error", "fatal")
_ALIASES = {"warn": "warning", "panic": "fatal"}
_COLOURS = {"trace": 37, "debug": 37, "info": 36, "warning": 33, "error": 31, "fatal": 31}
_BARE = r"[A-Za-z0-9\-._/@^+]*"
_BEGAN = time.monotonic()


class Log:
    """Writes messages of at least a certain level to stderr."""

    def __init__(self) -> None:
        """Begin with the format text and the level info."""
        self.level = LEVELS.index("info")
        self.as_json = False

    def set_level(self, name: str) -> None:
        """Write messages from the level `name` upwards; raises UsageError for an unknown level."""
        word = _ALIASES.get(name.lower(), name.lower())
        if word not in LEVELS:
            raise UsageError(f'not a valid logrus Level: "{name}"')
        self.level = LEVELS.index(word)

    def set_format(self, name: str) -> None:
        """Write `text` or `json`; raises UsageError for another format."""
        if name not in ("text", "json"):
            raise UsageError(f'unsupported log-format: "{name}"')
        self.as_json = name == "json"

    def debug(self, message: str) -> None:
        """Report something that helps to debug."""
        self.say("debug", message)

    def info(self, message: str) -> None:
        """Report what happens."""
        self.say("info", message)

    def warning(self, message: str) -> None:
        """Report something that the user may not have intended."""
        self.say("warning", message)

    def say(self, level: str, message: str, facts: Mapping[str, str] | None = None) -> None:
        """Write one line if `level` is enabled."""
        if LEVELS.index(level) < self.level:
            return
        with suppress(OSError, ValueError):  # the work continues even if nobody reads stderr
            sys.stderr.write(self._line(level, message, facts or {}) + "\n")
            sys.stderr.flush()

    def _line(self, level: str, message: str, facts: Mapping[str, str]) -> str:
        if self.as_json:
            record = {**facts, "level": level, "msg": message, "time": _now()}
            return json.dumps(dict(sorted(record.items())), separators=(",", ":"), ensure_ascii=False)
        pairs = "".join(f" {key}={_value(value)}" for key, value in sorted(facts.items()))
        if not sys.stderr.isatty():
            return f'time="{_now()}" level={level} msg={_value(message)}{pairs}'
        word, colour = level[:4].upper(), _COLOURS[level]
        marked = f"\x1b[{colour}m{word}\x1b[0m" if styled(sys.stderr) else word
        return f"{marked}[{int(time.monotonic() - _BEGAN):04}] {printable(message)}{pairs}"


def _now() -> str:
    """Return the time in this host's zone. Source: RFC 3339; UTC is written Z."""
    from datetime import UTC, datetime  # most calls write no message

    return datetime.now(UTC).astimezone().isoformat(timespec="seconds").replace("+00:00", "Z")


def _value(text: str) -> str:
    """Return `text` as it is, or quoted as in Go if a program could not tell where it ends."""
    return text if re.fullmatch(_BARE, text) else quoted(text)


def quoted(text: str) -> str:
    r"""Return `text` as a Go string: `"`, `\` and unprintable characters escaped. Source: Go, strconv.Quote."""
    return '"' + "".join(map(_escaped, text)) + '"'


_NAMED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _escaped(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004
