"""Which variables of this host's environment mean something in a guest too."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

KEPT_BACK = (
    "BASH*", "DISPLAY", "DYLD_*", "EUID", "FPATH", "GID", "GROUP", "HOME", "HOSTNAME", "LD_*", "LOGNAME", "OLDPWD",
    "PATH", "PWD", "SHELL", "SHLVL", "SSH_*", "TERM", "TERMINFO", "TMPDIR", "UID", "USER", "XAUTHORITY", "XDG_*",
    "ZDOTDIR", "ZSH*", "_*",
)  # fmt: skip
"""Variables that say something of this host. Source: Lima's documentation, "Environment variables"."""


def passed_on(environment: Mapping[str, str], refused: Sequence[str] = KEPT_BACK) -> dict[str, str]:
    """Return those of `environment` that a guest is given: all but what matches a pattern of `refused`."""
    return {key: value for key, value in environment.items() if not any(fnmatchcase(key, it) for it in refused)}
