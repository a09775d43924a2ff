"""Queries: `--filter`, `--yq`, and the command `yq`. jq runs them: for such queries its language equals yq's.

    limactl yq .cpus web.yaml          limactl yq -o json -I 0 . < web.yaml

Source for the flags of `yq`: the manual of mikefarah/yq, version 4.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HostError, UsageError

if TYPE_CHECKING:
    from .flags import Call
    from .session import Session

TIMEOUT_S = 20.0

_INDENT = 2

_FORMS = {"y": "yaml", "yml": "yaml", "yaml": "yaml", "j": "json", "json": "json"}
"""Name of a format for `yq`, or suffix of a file → the format."""


def query(value: Any, expressions: Sequence[str], form: str = "json") -> str:
    """Return the results of the pipe of `expressions` on `value`, one after another; text is without quotes.

    `form` is the format of each result: `json` for one line of JSON, `yaml` for a YAML document of its own, `plain` for
    YAML without a document marker.

    jq gets no environment, so that no expression can read a secret from it. Raises HostError if jq is not installed.
    """
    if form == "json":
        return _jq(value, expressions, "-r")
    mark = "---\n" if form == "yaml" else ""
    return "".join(mark + _yaml(it) for it in _found(value, expressions))


def yq(_session: "Session", call: "Call") -> int:
    """Print the results of an expression on files or standard input, as YAML or JSON."""
    from ..commands.stdout import write

    words, flags = list(call.arguments), call.flags
    words = words[1:] if words[0] in ("eval", "e") else words
    if flags.get("indent", _INDENT) < 0:
        raise UsageError("`--indent` must be at least 0")
    if words and Path(words[0]).is_file():
        words.insert(0, ".")
    expression, *files = words or ["."]
    files = ["-"] if flags.get("null-input") else files or ["-"]
    form = _form(flags, "output-format", files[0])
    values = [None] if flags.get("null-input") else [it for file in files for it in _values(file, flags)]
    results = [_found(value, [expression]) for value in values]
    texts = ["".join(_text(it, form, flags) for it in found) for found in results]
    write(("---\n" if form == "yaml" else "").join(texts))
    last = results[-1][-1] if results and results[-1] else None
    return 1 if flags.get("exit-status") and last in (None, False) else 0


def _form(flags: Mapping[str, Any], name: str, file: str) -> str:
    """Return `yaml` or `json`: the value of the flag `name`, or else the format that the file's name suggests."""
    given = flags.get(name, "auto")
    if given in ("auto", "a"):
        return _FORMS.get(file.rpartition(".")[2], "yaml")
    if given not in _FORMS:
        raise UsageError(f"`--{name} {given}` is not supported: there are yaml and json")
    return _FORMS[given]


def _values(file: str, flags: Mapping[str, Any]) -> list[Any]:
    """Return the documents in a file, or in standard input if `file` is `-`."""
    import yaml

    form = _form(flags, "input-format", file)
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        return [json.loads(text)] if form == "json" else list(yaml.safe_load_all(text))
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{file}: not {form}: {' '.join(str(error).split())}") from error


def _text(value: Any, form: str, flags: Mapping[str, Any]) -> str:
    bare = isinstance(value, str) and flags.get("unwrapScalar", form == "yaml")
    indent = flags.get("indent", _INDENT)
    if form == "yaml" and (bare or not isinstance(value, str)):
        return _yaml(value, indent)
    return (
        value
        if bare
        else json.dumps(value, indent=indent or None, separators=None if indent else (",", ":"), ensure_ascii=False)
    ) + "\n"


def _jq(value: Any, expressions: Sequence[str], *options: str) -> str:
    """Return the output of jq for the pipe of `expressions` on `value`: one line for each result."""
    from ..host.run import run
    from ..host.yq import as_jq

    program = shutil.which("jq")
    if program is None:
        raise HostError("queries are run by jq, which is not installed", hint="apt install jq")
    expression = " | ".join(expressions)
    done = run(
        [program, "-c", *options, as_jq(expression)],
        stdin=json.dumps(value, default=str).encode(),
        env={"PATH": os.defpath},
        timeout_s=TIMEOUT_S,
    )
    if done.status:
        raise UsageError(f"failed to apply `{expression}`: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace")


def _found(value: Any, expressions: Sequence[str]) -> list[Any]:
    return [json.loads(line) for line in _jq(value, expressions).splitlines()]


def _yaml(value: Any, indent: int = _INDENT) -> str:
    import yaml

    if isinstance(value, dict | list):
        return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, indent=indent))
    return (value if isinstance(value, str) else json.dumps(value)) + "\n"
