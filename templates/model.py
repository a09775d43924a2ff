"""What a template may say: the schema, as pydantic models.

The keys are those of Lima's YAML format where it has the same thing, so that what people know keeps its name; `boot`
and the location `build:NAME` are ours. A key that is not here is a mistake, never ignored.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Arch = Literal["x86_64", "aarch64"]

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*(?:([KMGT])i?B?|B)?", re.IGNORECASE | re.ASCII)
_POWER = {None: 0, "K": 1, "M": 2, "G": 3, "T": 4}


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


def _location(value: str) -> str:
    if re.match(r"(build:[a-z0-9]+|https?://\S+|file:\S+|[^:]*/\S*)\Z", value):
        return value
    raise ValueError("expected build:NAME, a URL or a path")


def _digest(value: str) -> str:
    if re.fullmatch(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", value):
        return value
    raise ValueError("expected sha256: or sha512: and as many hexadecimal digits as it has")


def _some(value: tuple["ImageSource", ...]) -> tuple["ImageSource", ...]:
    """Return `value`; a minimal length would also count the images that are refused for mistakes of their own."""
    if value:
        return value
    raise ValueError("expected at least one image")


def _login(value: str) -> str:
    if re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", value):
        return value
    raise ValueError("expected a login: small letters, digits, '_' and '-', at most 32")


Size = Annotated[int, BeforeValidator(size_bytes)]
Memory = Annotated[Size, Field(ge=64 << 20, le=1 << 46)]
Disk = Annotated[Size, Field(ge=1 << 20, le=1 << 53)]
Cpus = Annotated[int, Field(ge=1, le=1024)]


Login = Annotated[str, AfterValidator(_login)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageSource(_Strict):
    """One place an image can come from; the first that fits the machine's architecture is used."""

    location: Annotated[str, AfterValidator(_location)]
    """`build:tiny` and `build:debian` are built here; else a URL or a path of a qcow2 disk."""
    arch: Arch
    digest: Annotated[str, AfterValidator(_digest)] | None = None


class User(_Strict):
    """Who logs in."""

    name: Login | None = None


class Provision(_Strict):
    """A script that the first boot runs."""

    mode: Literal["system"] = "system"
    script: str


class Template(_Strict):
    """A template, before anything of this host is filled in."""

    message: str | None = None
    arch: Arch | None = None
    images: Annotated[tuple[ImageSource, ...], AfterValidator(_some)]
    boot: Literal["kernel", "firmware"] | None = None
    """Which of the image's ways; None: its fastest."""
    cpus: Cpus | None = None
    memory: Memory | None = None
    disk: Disk | None = None
    user: User = User()
    provision: tuple[Provision, ...] = ()


class Wished(_Strict):
    """What `plan.Wishes` may hold: to ask for it beside a template allows no more than to write it there."""

    arch: str | None
    """The driver's to judge."""
    cpus: Cpus | None
    memory_bytes: Memory | None
    disk_bytes: Disk | None
    user: Login | None
    start_timeout_s: Seconds | None
    stop_timeout_s: Seconds | None
