"""Scripts that Interlock writes itself, for template keys that name a result instead of a script.

Each consists of assignments to variables, followed by shell files from the folder of this module.
"""

import shlex
from pathlib import Path

from .facts import DEPENDENCY, EDIT, Script

_FOLDER = Path(__file__).parent


def edit(path: str, program: str, form: str, *, owner: str, permissions: int, once: bool) -> Script:
    """Return the script that edits the guest's file `path` by `program` of jq; `form` is `json`, `yaml` or `ini`."""
    facts = {"path": path, "program": program, "format": form, "owner": owner, "permissions": f"{permissions:o}"}
    return Script(EDIT, _script(facts, _text("edit")), once, title=f"edit of {path}")


def jq() -> Script:
    """Return the script that installs jq where it is missing."""
    return Script(DEPENDENCY, _script({}, "has jq || { refresh && install jq; }\n"), title="installation of jq")


def containerd(*, system: bool, user: bool, archive: str = "", digest: str = "") -> Script:
    """Return the script that installs containerd and starts it: for root if `system`, for the guest's user if `user`.

    It comes from the URL `archive`, or from the packages of the guest's distribution.
    """
    facts = {"for_root": "yes" * system, "for_user": "yes" * user, "archive": archive, "digest": digest}
    return Script(DEPENDENCY, _script(facts, _text("containerd")), title="installation of containerd")


def _script(facts: dict[str, str], last: str) -> bytes:
    """Return the assignments of `facts`, the functions that every script may call, and the text `last`."""
    given = "".join(f"{key}={shlex.quote(value)}\n" for key, value in facts.items())
    return "\n".join((given, _text("packages"), last)).encode()


def _text(name: str) -> str:
    return (_FOLDER / f"{name}.sh").read_text(encoding="utf-8")
