"""Queries: `--filter`, `--yq`. They are run by jq, whose language is yq's for all that is asked of a listing."""

import json
import os
import shutil
from collections.abc import Sequence
from typing import Any

from ..errors import HostError, UsageError

TIMEOUT_S = 20.0


def query(value: Any, expressions: Sequence[str], form: str = "json") -> str:
    """Return what the pipe of `expressions` makes of `value`, text without quotes, each thing in a line.

    Where it is more than one word: as JSON in one line; as YAML (`form` is `yaml`), which is then a document of its
    own; or as YAML that continues without a mark (`plain`).

    jq is given no environment, so that no expression reads a secret from it. Raises HostError where there is no jq.
    """
    from ..host.run import run
    from ..host.yq import as_jq

    program = shutil.which("jq")
    if program is None:
        raise HostError("queries are run by jq, which is not installed", hint="apt install jq")
    expression = " | ".join(expressions)
    done = run(
        [program, "-c", *(["-r"] if form == "json" else []), as_jq(expression)],
        stdin=json.dumps(value).encode(),
        env={"PATH": os.defpath},
        timeout_s=TIMEOUT_S,
    )
    if done.status:
        raise UsageError(f"failed to apply `{expression}`: {done.stderr.decode(errors='replace').strip()}")
    text = done.stdout.decode(errors="replace")
    if form == "json":
        return text
    import yaml

    found = [json.loads(line) for line in text.splitlines()]
    mark = "---\n" if form == "yaml" else ""
    return "".join(
        mark + (yaml.safe_dump(it, sort_keys=False, allow_unicode=True) if isinstance(it, dict | list) else _word(it))
        for it in found
    )


def _word(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value)) + "\n"
