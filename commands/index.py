"""All commands, as data: everything that `--help` and a plain command line need to know about them."""

from ..fsm.table import TABLE

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Lifecycle": {
        "create": ("lifecycle", "Create an instance from a template; it is not started."),
        "start": ("lifecycle", "Start an instance that exists; never creates one."),
        "up": ("lifecycle", "Create an instance if it is absent, then start it."),
        "stop": ("lifecycle", "Shut an instance down; --force ends it at once."),
        "kill": ("lifecycle", "End an instance's hypervisor at once."),
        "suspend": ("lifecycle", "Save an instance's memory and stop it; start continues."),
        "restart": ("lifecycle", "Stop an instance, then start it."),
        "reset": ("lifecycle", "Replace an instance's disk with a fresh one."),
        "delete": ("lifecycle", "Remove an instance; --force kills it first."),
        "resume": ("lifecycle", "Let a paused guest continue."),
        "provision": ("lifecycle", "Re-run provisioning in a running instance."),
        "migrate": ("clusters", "Move instances to another node of their cluster."),
        "protect": ("lifecycle", "Protect an instance from reset and delete."),
        "unprotect": ("lifecycle", "Remove the protection set by `protect`."),
        "clone": ("instances", "Make another instance with a copy of the disk."),
        "fork": ("instances", "Make copies of a running instance that continue from there."),
        "adopt": ("instances", "Adopt machines of limactl, or instances of another home."),
        "rename": ("instances", "Rename an instance that is not running."),
        "edit": ("editing", "Change processors, memory, disk, mounts or forwards."),
        "fleet": ("fleets", "Create and change the instances of a file; show what differs."),
        "snapshot": ("snapshots", "Take, list, restore and delete snapshots."),
        "repair": ("lifecycle", "Repair an instance that is listed as damaged."),
    },
    "Status": {
        "list": ("reading", "List the instances and what is happening to them."),
        "inspect": ("reading", "Show everything known about an instance."),
        "history": ("reading", "Show every transition of an instance."),
        "watch": ("watching", "Show what happens to instances, as it happens."),
        "top": ("top.command", "Show instances live, with keys for what is legal now."),
        "wait": ("watching", "Wait until an instance reaches a state."),
        "can": ("reading", "Show what is legal now, and why the rest is not."),
        "diagram": ("reading", "Draw the lifecycle; with a name, mark its state."),
    },
    "Guest": {
        "shell": ("guest", "Log in to a guest, or run a command in it."),
        "run": ("guest", "Run a command in a guest without a terminal."),
        "copy": ("guest", "Copy files between this host and a guest."),
        "ssh-config": ("guest", "Print how ssh reaches a guest, for other programs."),
        "tunnel": ("guest", "Forward a port of this host to a guest."),
        "logs": ("guest", "Show the logs of an instance."),
    },
    "Host": {
        "doctor": ("host", "Check this host, and say how to fix it."),
        "autostart": ("autostart", "Start instances when you log in, or stop doing so."),
        "image": ("images", "Build, import, list and delete images."),
        "cluster": ("clusters", "List nodes of clusters; evacuate or leave one."),
        "disk": ("disks", "Create, list and delete disks that outlive instances."),
        "prune": ("pruning", "List what nothing needs, and remove it if you agree."),
        "template": ("templates", "List, show, check and copy templates."),
        "limactl": ("limactl.door", "Do what limactl does, for applications that call it."),
        "install-limactl": ("limactl.door", "Put the programs limactl and lima into a folder."),
        "help": ("help", "Explain a command or a topic."),
    },
}
"""Section → command → (module of this package, summary); a module with a dot is in another package.

A test compares the summaries with the commands.

A row of the table without an entry here gets one, with the command that `rows` makes.
"""

_NAMED = {name for section in COMMANDS.values() for name in section}
COMMANDS["Lifecycle"] |= {
    row.trigger: ("rows", row.why) for row in TABLE if row.recorded and not row.command and row.trigger not in _NAMED
}
