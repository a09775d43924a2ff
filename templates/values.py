"""The kinds of values that a template holds: sizes, paths, ports, digests, names. What fits none raises ValueError."""

import ipaddress
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictInt, WithJsonSchema

Arch = Literal["x86_64", "aarch64"]
"""Of machines that can be made here."""

AnyArch = Literal["x86_64", "aarch64", "armv7l", "ppc64le", "riscv64", "s390x"]
"""Of images, most of which are for other machines than the one that is made."""

LOGIN = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
"""The name of a user that every guest accepts."""

ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
"""The name of a time zone, which is also its path in the database, and leads nowhere else."""

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*(?:([KMGT])i?B?|B)?", re.IGNORECASE | re.ASCII)
_POWER = {None: 0, "K": 1, "M": 2, "G": 3, "T": 4}

_SYSTEM_FOLDERS = ("/", "/bin", "/dev", "/etc", "/home", "/opt", "/sbin", "/tmp", "/usr", "/var")  # noqa: S108


def size_bytes(value: object) -> int:
    """Return the bytes that `value` means: a number of them, or text such as `512MiB`, `4 GiB`, `1.5G`.

    Units are powers of 1024 whatever their spelling, as in Lima and QEMU. Raises ValueError.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError("expected a size such as 512MiB or 4GiB")
    return int(float(found[1]) * 1024 ** _POWER[found[2].upper() if found[2] else None])


def has_variables(value: str) -> bool:
    """True for a text that says nothing final yet: it is judged once its variables are replaced."""
    return "{{" in value


def _location(value: str) -> str:
    if re.match(r"(build:[a-z0-9]+(@\S+)?|https?://\S+|file:\S+|[^:]*/\S*|~\S*|[^:\s]+\.[^:\s]+)\Z", value):
        return value
    raise ValueError("expected build:NAME, a URL or a path")


def _digest(value: str) -> str:
    if re.fullmatch(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", value):
        return value
    if re.fullmatch(r"[a-z0-9]+:[0-9a-f]+", value) and not value.startswith(("sha256:", "sha512:")):
        raise ValueError("not supported yet: a digest of another kind than sha256 or sha512")
    raise ValueError("expected sha256: or sha512: and as many hexadecimal digits as it has")


def _login(value: str) -> str:
    if LOGIN.fullmatch(value):
        return value
    raise ValueError("expected a login: small letters, digits, '_' and '-', at most 32")


def _absolute(value: str) -> str:
    if has_variables(value) or (value.startswith("/") and "\0" not in value):
        return value
    raise ValueError("expected an absolute path")


def _host_path(value: str) -> str:
    if has_variables(value) or (value.startswith(("/", "~")) and "\0" not in value):
        return value
    raise ValueError("expected an absolute path, or one that begins with ~")


def _mount_point(value: str) -> str:
    if _absolute(value).rstrip("/") in ("", *_SYSTEM_FOLDERS):
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


def _zone(value: str) -> str:
    if not value or ZONE.fullmatch(value):
        return value
    raise ValueError("expected the name of a time zone, such as Europe/Berlin")


def _octal(value: str) -> str:
    if re.fullmatch(r"0?[0-7]{3,4}", value):
        return value
    raise ValueError("expected permissions as an octal number, such as 644")


def _certificate(value: str) -> str:
    if "-----BEGIN CERTIFICATE-----" in value:
        return value
    raise ValueError("expected a certificate in PEM")


def _disk_name(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*", value) and len(value) <= 76:  # noqa: PLR2004 - as in Lima
        return value
    raise ValueError("expected a name: letters and digits, with single '.', '_' or '-' between them")


def _variable_name(value: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        return value
    raise ValueError("expected the name of an environment variable: letters, digits and '_'")


def _param_name(value: str) -> str:
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", value):
        return value
    raise ValueError("expected a letter and then letters, digits and '_'")


def _host_name(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", value):
        return value
    raise ValueError("expected the name of a host")


def _target(value: str) -> str:
    try:
        return _address(value)
    except ValueError:
        return _host_name(value)


def _version(value: str) -> str:
    if re.fullmatch(r"v?\d{1,9}(\.\d{1,9}){0,2}([-+][0-9A-Za-z.+-]+)?", value):
        return value
    raise ValueError("expected a version such as 2.0.0")


def _file_system(value: str) -> str:
    if re.fullmatch(r"[a-z0-9][a-z0-9.]*", value):
        return value
    raise ValueError("expected the name of a file system, such as ext4")


def _comment(value: str) -> str:
    if ":" in _printable(value):
        raise ValueError("expected a name without ':'")
    return value


def _memory(value: int) -> int:
    if 64 << 20 <= value <= 1 << 46:
        return value
    raise ValueError("expected 64MiB to 64TiB")


def _queue_size(value: int) -> int:
    if value in {1 << power for power in range(11)}:
        return value
    raise ValueError("expected a power of 2, at most 1024")


def _disk_size(value: int) -> int:
    if 1 << 20 <= value <= 1 << 53:
        return value
    raise ValueError("expected 1MiB to 8192TiB")


def _blank(value: Any) -> Any:
    return None if value in ("", "default") else value


BLANK = BeforeValidator(_blank)
"""An empty text and `default` say no more than null."""

_SIZE_SCHEMA = WithJsonSchema({"type": ["string", "integer"], "examples": ["512MiB", "4GiB"]})

Size = Annotated[int, BeforeValidator(size_bytes), _SIZE_SCHEMA]
Memory = Annotated[Size, AfterValidator(_memory)]
DiskSize = Annotated[Size, AfterValidator(_disk_size)]
Cpus = Annotated[StrictInt, Field(ge=1, le=1024)]
QueueSize = Annotated[StrictInt, AfterValidator(_queue_size)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Location = Annotated[str, AfterValidator(_location)]
Digest = Annotated[str, AfterValidator(_digest)]
Login = Annotated[str, AfterValidator(_login)]
GuestPath = Annotated[str, AfterValidator(_absolute)]
HostPath = Annotated[str, AfterValidator(_host_path)]
MountPoint = Annotated[str, AfterValidator(_mount_point)]
Port = Annotated[StrictInt, AfterValidator(_port)]
Address = Annotated[str, AfterValidator(_address)]
Line = Annotated[str, AfterValidator(_printable)]
AnyLine = Annotated[str, AfterValidator(_printable), WithJsonSchema({"type": ["string", "number", "boolean", "null"]})]
"""Text, whatever it looks like."""
Zone = Annotated[str, AfterValidator(_zone)]
Permissions = Annotated[str, AfterValidator(_octal), WithJsonSchema({"type": ["string", "integer"]})]
Certificate = Annotated[str, AfterValidator(_certificate)]
FileSystem = Annotated[str, AfterValidator(_file_system)]
Comment = Annotated[str, AfterValidator(_comment)]
DiskName = Annotated[str, AfterValidator(_disk_name)]
VariableName = Annotated[str, AfterValidator(_variable_name)]
ParamName = Annotated[str, AfterValidator(_param_name)]
HostName = Annotated[str, AfterValidator(_host_name)]
Target = Annotated[str, AfterValidator(_target)]
Version = Annotated[str, AfterValidator(_version), WithJsonSchema({"type": ["string", "number"]})]
