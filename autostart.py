"""Instances that start when their user logs in: `autostart`.

A file in the directory of an instance marks it, so the mark is renamed and deleted with the instance. Each home has one
systemd user unit, or on macOS one launchd agent, which runs `interlock start` on the marked instances; when no instance
is marked, the unit is removed or does nothing. The unit is only a file and the link that enables it: Interlock does not
talk to the running systemd, which reads both at the next login. If neither has started the marked instances, the keeper
starts them as soon as it runs (`restarts.is_missed`).

Source: systemd.service(5), systemd.unit(5), launchd.plist(5).
"""

import os
import sys
from pathlib import Path

from .fsm.records import is_autostarted
from .host.files import flush_directory, make_private_directory, remove_tree, write_whole
from .host.home import Home, user_home
from .host.locks import held
from .host.process import boot_id
from .host.progress import Report, unheard

MARKED = "--filter=autostart=true"
"""The option that selects the marked instances on a command line."""


def change(home: Home, mark: Path, *, enabled: bool, report: Report = unheard) -> bool:
    """Make the instance with the mark `mark` start at login, or no longer; return whether that changed anything."""
    with held(home.lock(".autostart"), "waiting for another process that is changing what starts at login", report):
        before = os.path.lexists(mark)
        if enabled and not before:
            write_whole(mark, boot_id().encode())
        elif before and not enabled:
            mark.unlink()
        flush_directory(mark.parent)
        _keep(home, needed=any(is_autostarted(home.directory(name)) for name in home.names()))
        return before is not enabled


def service(home: Home) -> Path:
    """Return the path of the unit or agent that starts the marked instances of `home`; the file may not exist."""
    key = home.key
    if sys.platform == "darwin":
        return user_home() / "Library" / "LaunchAgents" / f"interlock.{key}.plist"
    return _units() / f"interlock-{key}.service"


def _keep(home: Home, *, needed: bool) -> None:
    """Write and enable the file if it is needed; remove it otherwise."""
    file = service(home)
    wants = _units() / "default.target.wants" / file.name
    if not needed:
        remove_tree(wants)
        remove_tree(file)
        return
    make_private_directory(file.parent)
    if sys.platform == "darwin":
        write_whole(file, agent(home))
        return
    write_whole(file, unit(home).encode())
    make_private_directory(wants.parent)
    remove_tree(wants)
    wants.symlink_to(Path("..") / file.name)


def unit(home: Home) -> str:
    """Return the systemd unit. Its ExecStop shuts the guests down; without it, systemd would kill the hypervisors.

    systemd would also kill them after a failed ExecStart, even if only one guest is degraded: the `-` makes systemd
    ignore the failure.
    """
    program = " ".join(_quoted(word).replace("$", "$$") for word in _program())
    environment = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in _environment(home).items())
    return f"""\
# Written by `interlock autostart enable`; `interlock autostart disable` removes it.
[Unit]
Description=Virtual machines of Interlock in {_plain(str(home.root))}
Documentation=man:interlock-autostart(1)

[Service]
Type=oneshot
RemainAfterExit=yes
{environment}ExecStart=-{program} start {MARKED}
ExecStop={program} stop {MARKED}
TimeoutStopSec=5min

[Install]
WantedBy=default.target
"""


def agent(home: Home) -> bytes:
    """Return the launchd agent; the hypervisors are not part of its job and outlive it."""
    import plistlib

    return plistlib.dumps(
        {
            "Label": service(home).stem,
            "ProgramArguments": [*_program(), "start", MARKED],
            "EnvironmentVariables": _environment(home),
            "RunAtLoad": True,
            "AbandonProcessGroup": True,
        }
    )


def _program() -> list[str]:
    return [sys.executable, "-P", "-m", "interlock"]


def _environment(home: Home) -> dict[str, str]:
    """Return the variables by which the program finds the home and the programs that it runs."""
    return {"INTERLOCK_HOME": str(home.root), "PATH": os.environ.get("PATH", os.defpath)}


def _units() -> Path:
    given = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(given) if Path(given).is_absolute() else user_home() / ".config") / "systemd" / "user"


def _quoted(word: str) -> str:
    """Return `word` as one word of a unit. Source: systemd.service(5), "Command lines"."""
    return '"' + _plain(word.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _plain(text: str) -> str:
    return text.replace("%", "%%").replace("\n", "\\n")
