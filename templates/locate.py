"""What a locator means: where to find a template, or a file that it names, and how to read it.

debian, template:debian             a built-in template
web.yaml, ./web, ~/web, file:/web   a file on this host
http://..., https://...             a file on a server
-                                   standard input
a text of several lines, a mapping  the template itself, from a program's memory
cloud-amd64.qcow2, https://.../x.img.xz     an image itself: a template with nothing but this image
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from ..errors import InvalidTemplateError, NotFoundError, UsageError
from ..host import cancellation
from . import image_names

MAX_BYTES = 1 << 20
"""Templates are written by people; a larger file is something else."""

TIMEOUT_S = 20.0
"""How long a server may be silent."""

STDIN = "-"

MEMORY = "<memory>"
"""The name in messages of a template from a program's memory."""

BUILTIN = "template:"

_IMAGES = "_images"
"""The folder of the built-in templates that only say where the images of a release are."""

_REMOTE = ("http", "https")


@dataclass(frozen=True, slots=True)
class Source:
    """A text, its name in messages, and where it came from."""

    name: str
    text: bytes
    locator: str = STDIN
    """Absolute. Relative locators in the text start in its folder; standard input has no folder."""


def builtin_names() -> list[str]:
    """Return the names of the built-in templates that machines are made from, sorted.

    The images of a release, such as `ubuntu-24.04`, count as a template, too.
    """
    texts = [*_builtin().glob("*.yaml"), *(_builtin() / _IMAGES).glob("*.yaml")]
    return sorted({path.name.removesuffix(".yaml") for path in texts})


def find(template: str | Mapping[str, Any]) -> Source:
    """Return the template that `template` means or is.

    A mapping holds what a template's text would: strings, numbers, booleans, None, lists and mappings. Raises
    NotFoundError if it is not found, and InvalidTemplateError for what cannot be a template.
    """
    if isinstance(template, Mapping):
        return _limited(MEMORY, _written(template), STDIN)
    if "\n" in template:
        return _limited(MEMORY, template.encode(errors="replace"), STDIN)
    return read(absolute(template))


def _written(template: Mapping[str, Any]) -> bytes:
    """Return `template` as YAML, in the form of JSON, whose strings cannot be mistaken for anything else."""
    try:
        return json.dumps(template, ensure_ascii=False, indent=1, default=_plain).encode(errors="replace")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTemplateError(f"{MEMORY}: {error}") from error


def _plain(value: object) -> object:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a template cannot hold a value of type {type(value).__name__}: {value!r}")


def absolute(locator: str, beside: str | None = None) -> str:
    """Return `locator` so that it means the same everywhere: `template:NAME`, a URL, an absolute path, or `-`.

    `beside` is the absolute locator of the template that names `locator`: a relative locator starts in its folder. None
    stands for the command line, where a bare word is a built-in and a path starts in the current folder. Raises
    InvalidTemplateError for a locator that must not be named from there.
    """
    scheme = _scheme(locator)
    if scheme == "template":
        return BUILTIN + locator.removeprefix(BUILTIN).removeprefix("//").removesuffix(".yaml")
    if scheme in _REMOTE:
        return locator
    if scheme not in ("", "file"):
        raise InvalidTemplateError(f"{locator}: locators by {scheme}: are not supported yet; use {_KINDS}")
    if scheme == "file" or locator.startswith(("/", "~")):
        if beside and _scheme(beside) in _REMOTE:
            raise InvalidTemplateError(f"{locator}: a template from a server cannot name files of this host")
        return _path(locator)
    return _neighbour(locator, beside) if beside else _typed(locator)


def is_relative(locator: str) -> bool:
    """Return whether the meaning of `locator` depends on the place of the template that names it, or on a home."""
    return not _scheme(locator) and not locator.startswith("/")


def read(locator: str) -> Source:
    """Return the template that the absolute `locator` means. Raises as `find` does."""
    if image_names.is_image(locator):
        return Source(locator, image_names.template(locator), locator)
    return read_file(locator)


def read_file(locator: str) -> Source:
    """Return the text at the absolute `locator`. Raises NotFoundError or InvalidTemplateError."""
    if locator == STDIN:
        with cancellation.interruptible():
            return _limited("<standard input>", sys.stdin.buffer.read(MAX_BYTES + 1), STDIN)
    if locator.startswith(BUILTIN):
        return _read_builtin(locator.removeprefix(BUILTIN))
    if _scheme(locator) in _REMOTE:
        return _limited(public(locator), _download(locator), locator)
    return _limited(_shown(locator), _read_file(locator), locator)


def public(locator: str | Mapping[str, Any]) -> str:
    """Return `locator` for messages and records: without the user, the password and the query of a URL."""
    if isinstance(locator, Mapping) or "\n" in locator:
        return MEMORY
    if _scheme(locator) not in _REMOTE:
        return locator
    return re.sub(r"(?<=://)[^/@]+@|\?.*", lambda found: "?…" if found[0].startswith("?") else "…@", locator)


def instance_name(locator: str) -> str:
    """Return the default name of an instance made from `locator`: that of its template, or of its image.

    Raises UsageError if `locator` yields no name.
    """
    if image_names.is_image(locator):
        name = image_names.instance_name(locator)
    else:
        path = urlsplit(locator).path if _scheme(locator) in _REMOTE else locator.removeprefix(BUILTIN)
        name = re.sub(r"\.ya?ml\Z", "", path.rsplit("/", 1)[-1].lower())
    if not re.match(r"[a-z0-9]", name):
        what = "standard input" if locator == STDIN else locator
        raise UsageError(
            f"an instance created from {what} needs a name", hint=f"interlock create web -t {shlex.quote(locator)}"
        )
    return name


def alone(word: str) -> str:
    """Return the locator that `word` means where it could be a template or the name of an instance.

    Raises UsageError, with what to type, if a file has the same name as a built-in, or if a bare word is not a built-in
    and so is a name.
    """
    if word == STDIN or "/" in word or _scheme(word) or word.endswith((".yaml", ".yml")) or image_names.is_image(word):
        return word
    beside = [name for name in (f"{word}.yaml", f"{word}.yml", word) if os.path.isfile(name)]  # noqa: PTH113 - "\0"
    builtin = word in builtin_names()
    if builtin and not beside:
        return word
    calls = [f"interlock create {BUILTIN}{word}"] if builtin else []
    calls += [f"interlock create {shlex.quote(f'./{name}')}" for name in beside[:1]]
    if builtin:
        raise UsageError(
            f"{word} is a built-in template, and {beside[0]} is in this folder; choose one of these", details=calls
        )
    calls.append(f"interlock create {shlex.quote(word)} --template debian")
    raise UsageError(
        f"an instance called {word} needs a template; {_no_builtin(word).message}",
        hint=calls[0] if len(calls) == 1 else None,
        details=calls if len(calls) > 1 else (),
    )


_KINDS = "a built-in's name, a path, a URL (http, https, file), or - for standard input"


def _scheme(locator: str) -> str:
    """Return the scheme of a URL, or "": `template:x` has a scheme, `./a:b` does not."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", locator)
    return found[1].lower() if found else ""


def _path(locator: str) -> str:
    """Return the absolute path of a `file:` URL or of a path that begins with a slash or `~`."""
    if _scheme(locator) == "file":
        parts = urlsplit(locator)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise InvalidTemplateError(
                f"{locator}: a file: URL needs an absolute path, such as file:///home/anna/web.yaml"
            )
        return unquote(parts.path)
    return os.path.expanduser(locator)  # noqa: PTH111 - Path's own raises where there is no such user


def _typed(locator: str) -> str:
    """Return what a relative locator on the command line means."""
    if locator == STDIN:
        return STDIN
    if "/" in locator or locator.endswith((".yaml", ".yml")) or image_names.is_image(locator):
        return os.path.abspath(locator)  # noqa: PTH100 - not a Path yet: that raises for "\0"
    return BUILTIN + locator


def _neighbour(locator: str, beside: str) -> str:
    if beside == STDIN:
        raise InvalidTemplateError(
            f"{locator}: a template that is not a file has no folder: use an absolute path or a URL"
        )
    if ".." in locator.split("/"):
        raise InvalidTemplateError(f"{locator}: a relative locator cannot leave its template's folder by ..")
    if beside.startswith(BUILTIN):
        folder = beside.removeprefix(BUILTIN).rpartition("/")[0]
        return BUILTIN + "/".join(filter(None, (folder, locator.removesuffix(".yaml"))))
    if _scheme(beside) in _REMOTE:
        return urljoin(beside, locator)
    return os.path.normpath(os.path.join(os.path.dirname(beside), locator))  # noqa: PTH118, PTH120 - as above


def _limited(name: str, text: bytes, locator: str) -> Source:
    if len(text) > MAX_BYTES:
        raise InvalidTemplateError(f"{name}: larger than 1 MiB, so not a template")
    return Source(name, text, locator)


def _builtin() -> Path:
    return Path(str(files(__package__))) / "builtin"


def _read_builtin(name: str) -> Source:
    parts = name.split("/")
    if ".." not in parts and "\0" not in name and all(parts):
        for place in (name, f"{_IMAGES}/{name}"):
            for path in (_builtin() / f"{place}.yaml", _builtin() / place):
                if path.is_file():
                    return Source(BUILTIN + name, path.read_bytes(), BUILTIN + name)
    raise _no_builtin(name)


def _no_builtin(name: str) -> NotFoundError:
    from difflib import get_close_matches

    meant = get_close_matches(name, builtin_names(), n=1)
    suggestion = f'; did you mean "{meant[0]}"?' if meant else ""
    return NotFoundError(f'there is no built-in template "{name}"{suggestion}', hint="interlock template list")


def _read_file(path: str) -> bytes:
    try:
        with cancellation.interruptible(), Path(path).open("rb") as file:  # it may be a pipe
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {_shown(path)}") from error
    except OSError as error:
        raise InvalidTemplateError(f"{_shown(path)}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidTemplateError(f"{path!r}: {error}") from error


def _shown(path: str) -> str:
    """Return `path`, relative to the working folder if it is below that."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path


def _download(url: str) -> bytes:
    """Return the content at `url`, cut off once it is larger than a template may be. Raises NotFoundError."""
    import httpx

    text = b""
    try:
        with (
            cancellation.interruptible(),
            httpx.stream("GET", url, timeout=TIMEOUT_S, follow_redirects=True) as response,
        ):
            response.raise_for_status()
            for chunk in response.iter_bytes():
                text += chunk
                if len(text) > MAX_BYTES:
                    break
    except httpx.HTTPStatusError as error:
        status = f"{error.response.status_code} {error.response.reason_phrase}".rstrip()
        raise NotFoundError(f"cannot read {public(url)}: the server answered {status}") from error
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise NotFoundError(f"cannot read {public(url)}: {error or type(error).__name__}") from error
    return text
