"""The kinds of values in a template: sizes, paths, ports, digests, names. A value that does not fit raises ValueError.

Each kind is defined once, by a pattern or bounds, for validation and for the JSON Schema.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StrictInt,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from ..host import sizes
from ..host.home import IMAGE_NAME

Arch = Literal["x86_64", "aarch64"]
"""Architectures of machines that can be made here."""

AnyArch = Literal["x86_64", "aarch64", "armv7l", "ppc64le", "riscv64", "s390x"]
"""Architectures of images, most of which are for other machines than the one being made."""

LOGIN = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
"""A user name that every guest accepts."""

ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
"""The name of a time zone. It is also a path in the database, and must not lead out of it."""

_SYSTEM_FOLDERS = ("/", "/bin", "/dev", "/etc", "/home", "/opt", "/sbin", "/tmp", "/usr", "/var")  # noqa: S108

_NOTHING_SAID = ("", "default")

_HOST_NAME = r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?"


def has_variables(value: str) -> bool:
    """True for text with variables: it is checked once they are replaced."""
    return "{{" in value


@dataclass(frozen=True, slots=True)
class Matching:
    """The kind of text that a pattern matches as a whole. With `variables`, a text with variables passes, too."""

    pattern: str
    """In the syntax that Python and ECMA-262 share."""
    words: str
    """What was expected."""
    variables: bool = False

    def check(self, value: str) -> str:
        """Return `value`. Raises ValueError if it does not match."""
        if (self.variables and has_variables(value)) or re.fullmatch(self.pattern, value):
            return value
        raise ValueError(self.words)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        pattern = rf"{self.pattern}|[\s\S]*\{{\{{[\s\S]*" if self.variables else self.pattern
        return {**handler(schema), "pattern": f"^(?:{pattern})$"}


@dataclass(frozen=True, slots=True)
class _Size:
    """A number of bytes, within bounds."""

    least: int
    most: int
    words: str

    def check(self, value: object) -> int:
        number = sizes.size_bytes(value)
        if self.least <= number <= self.most:
            return number
        raise ValueError(self.words)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "type": ["string", "integer"],
            "pattern": rf"^\s*(?:{sizes.PATTERN})\s*$",
            "minimum": self.least,
            "maximum": self.most,
            "examples": ["512MiB", "4GiB"],
        }


class _Blank:
    """Makes an empty text and `default` mean the same as null."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_blank, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        said = handler(schema)
        for part in (said, *said.get("anyOf", ())):
            if "enum" in part:
                part["enum"] = [*part["enum"], *_NOTHING_SAID]
            if "pattern" in part:
                part["pattern"] = f"{part['pattern']}|^(?:{'|'.join(_NOTHING_SAID)})$"
        return said


BLANK = _Blank()


def _blank(value: Any) -> Any:
    return None if value in _NOTHING_SAID else value


def _digest(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"[a-z0-9]+:[0-9a-f]+", value) and not value.startswith(("sha256:", "sha512:")):
        raise ValueError("not supported yet: a digest other than sha256 or sha512")
    return value


def mount_point(value: str) -> str:
    """Return `value`, a folder in the guest to mount on. Raises ValueError if that would hide the guest's system."""
    if value.rstrip("/") in ("", *_SYSTEM_FOLDERS):
        raise ValueError("expected a folder that the guest's own system does not need")
    return value


def _port(value: int) -> int:
    if 0 <= value <= 65535 and value != 22:  # noqa: PLR2004 - sshd's, which every machine has forwarded
        return value
    raise ValueError("expected a port: 1 to 65535, but not 22, which is the guest's own ssh")


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError as error:
        raise ValueError("expected an IP address") from error


def _printable(value: str) -> str:
    if all(char.isprintable() or char == "\t" for char in value):
        return value
    raise ValueError("expected text on one line, without control characters")


def _target(value: str) -> str:
    try:
        return _address(value)
    except ValueError:
        return Matching(_HOST_NAME, "expected the name of a host").check(value)


def _queue_size(value: int) -> int:
    if value in _POWERS:
        return value
    raise ValueError("expected a power of 2, at most 1024")


_POWERS = [1 << power for power in range(11)]
_LINE = r"^[^\u0000-\u0008\u000a-\u001f\u007f]*$"
_NUMBER_TOO = {"type": ["string", "number"]}

Memory = Annotated[int, _Size(64 << 20, 1 << 46, "expected 64MiB to 64TiB")]
DiskSize = Annotated[int, _Size(1 << 20, 1 << 53, "expected 1MiB to 8192TiB")]
FileSize = Annotated[int, _Size(1, 1 << 46, "expected 1B to 64TiB")]
MessageSize = Annotated[int, _Size(4 << 10, 1 << 30, "expected 4KiB to 1GiB")]
Cpus = Annotated[StrictInt, Field(ge=1, le=1024)]
QueueSize = Annotated[StrictInt, AfterValidator(_queue_size), WithJsonSchema({"enum": _POWERS})]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Location = Annotated[
    str,
    Matching(
        rf"build:{IMAGE_NAME.pattern}(@\S+)?|https?://\S+|file:\S+|[^:]*/\S*|~\S*|[^:\s]+\.[^:\s]+",
        "expected build:NAME, a URL or a path",
    ),
]
Digest = Annotated[
    str,
    Matching(
        r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", "expected sha256: and 64 hexadecimal digits, or sha512: and 128"
    ),
    BeforeValidator(_digest),
]
Login = Annotated[str, Matching(LOGIN.pattern, "expected a login: lowercase letters, digits, '_' and '-', at most 32")]
GuestPath = Annotated[str, Matching(r"/[^\u0000]*", "expected an absolute path", variables=True)]
HostPath = Annotated[
    str, Matching(r"[/~][^\u0000]*", "expected an absolute path, or one that begins with ~", variables=True)
]
MountPoint = Annotated[GuestPath, AfterValidator(mount_point)]
Port = Annotated[
    StrictInt,
    AfterValidator(_port),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 65535, "not": {"const": 22}}),
]
Address = Annotated[str, AfterValidator(_address), WithJsonSchema({"type": "string", "pattern": r"^[0-9a-fA-F:.%]+$"})]
Line = Annotated[str, AfterValidator(_printable), WithJsonSchema({"type": "string", "pattern": _LINE})]
AnyLine = Annotated[
    str, AfterValidator(_printable), WithJsonSchema({"type": ["string", "number", "boolean", "null"], "pattern": _LINE})
]
"""Text, whatever it looks like."""
Zone = Annotated[str, Matching(rf"({ZONE.pattern})?", "expected the name of a time zone, such as Europe/Berlin")]
Permissions = Annotated[
    str,
    Matching("0?[0-7]{3,4}", "expected permissions as an octal number, such as 644"),
    WithJsonSchema({"type": ["string", "integer"], "pattern": "^0?[0-7]{3,4}$"}),
]
Certificate = Annotated[str, Matching(r"[\s\S]*-----BEGIN CERTIFICATE-----[\s\S]*", "expected a certificate in PEM")]
FileSystem = Annotated[str, Matching("[a-z0-9][a-z0-9.]*", "expected the name of a file system, such as ext4")]
Comment = Annotated[Line, Matching("[^:]*", "expected a name without ':'")]
DiskName = Annotated[
    str,
    Matching(
        r"(?=.{1,76}$)[A-Za-z0-9]+([._-][A-Za-z0-9]+)*",
        "expected a name: letters and digits, with single '.', '_' or '-' between them",
    ),
]
VariableName = Annotated[
    str, Matching("[A-Za-z_][A-Za-z0-9_]*", "expected the name of an environment variable: letters, digits and '_'")
]
ParamName = Annotated[str, Matching("[A-Za-z][A-Za-z0-9_]*", "expected a letter and then letters, digits and '_'")]
Interface = Annotated[str, Matching("[a-z][a-z0-9_-]{0,14}", "expected the name of a network card, such as lima0")]
HostName = Annotated[str, Matching(_HOST_NAME, "expected the name of a host")]
Target = Annotated[
    str,
    AfterValidator(_target),
    WithJsonSchema({"type": ["string", "null"], "pattern": f"^(?:[0-9a-fA-F:.%]+|{_HOST_NAME})$"}),
]
Version = Annotated[
    str,
    Matching(r"v?[0-9]{1,9}(\.[0-9]{1,9}){0,2}([-+][0-9A-Za-z.+-]+)?", "expected a version such as 2.0.0"),
    WithJsonSchema(_NUMBER_TOO),
]
