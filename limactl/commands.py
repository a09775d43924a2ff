"""The supported commands of limactl, as data, and the unsupported ones, with what to do instead."""

from .flags import Command, Flag

_NOT_HERE = "is not supported here"

EDITS = (
    Flag("cpus", "Number of CPUs", "int"),
    Flag("memory", "Memory in GiB", "float"),
    Flag("disk", "Disk size in GiB", "float"),
    Flag("mount", "Directories to mount, suffix ':w' for writable", "strings"),
    Flag("mount-only", "Like --mount, but replaces the mounts of the template", "strings"),
    Flag("mount-none", "Remove all mounts", "bool"),
    Flag("mount-type", "Mount type (9p, virtiofs)", values=("9p", "virtiofs")),
    Flag("mount-writable", "", "bool", refused="write `writable: true` into the template, or use --mount DIR:w"),
    Flag("mount-inotify", "", "bool", refused="changes of mounted files are not announced in guests"),
    Flag("network", "Networks that replace the template's: lima:user-v2", "strings", values=("lima:user-v2",)),
    Flag("dns", "Name servers, instead of the host's resolver", "strings"),
    Flag("ssh-port", "Local port of ssh; 0 for any free port", "int"),
    Flag("param", "A parameter of the template, KEY=VALUE", "texts"),
    Flag("nested-virt", "Let the guest run virtual machines with hardware virtualization", "bool"),
    Flag("shell", "", refused="the image sets the user's shell; `limactl shell --shell` chooses another"),
    Flag("vm-type", "", refused="the driver of an instance is chosen when it is created"),
    Flag("rosetta", "", "bool", refused=f"Rosetta {_NOT_HERE}"),
    Flag(
        "video",
        "",
        "bool",
        refused="write `video: {display: vnc}` into the template, or --set '.video.display = \"vnc\"'",
    ),
    Flag("set", "Change the template, such as `.cpus = 2 | .ssh.localPort = 60022`", "texts"),
)

CREATE = (
    Flag("name", "Override the instance name"),
    Flag("list-templates", "List available templates and exit", "bool"),
    Flag("list-drivers", "List available drivers and exit", "bool"),
    *EDITS,
    Flag("arch", "Machine architecture (x86_64, aarch64)"),
    Flag(
        "containerd",
        "containerd mode (user, system, user+system, none)",
        values=("user", "system", "user+system", "none"),
    ),
    Flag("vm-type", "Virtual machine type: the name of an Interlock driver"),
    Flag("image-variant", "", refused="name the image you want in the template"),
    Flag("arch-variant", "", refused="guests have QEMU's processor `max`, or the host's own"),
    Flag("audio-device", "", refused="guests have no sound here"),
    Flag("audio-interface", "", refused="guests have no sound here"),
    Flag("plain", "Leave out mounts, port forwards and containerd", "bool"),
    Flag("port-forward", "Forward a port, HOST:GUEST[,static=true]", "texts"),
)

_FORCE = Flag("force", "Force", "bool", "f")
_TAG = (Flag("tag", "Name of the snapshot"),)
_START = Flag("start", "Start it afterwards", "bool")
_TIMEOUT = Flag("timeout", "How long to wait for the instance to be running", "duration")
_PROGRESS = Flag("progress", "No effect: each step is always shown", "bool")
_FILL = Flag("fill", "", "bool", refused="defaults are this host's; they are filled in when an instance is created")
_PLAINLY = (Flag("no-descriptions", "Complete without descriptions", "bool"),)
_YQ = Flag("yq", "Apply a query to the output", "texts")

COMMANDS: dict[str, "dict[str, Command] | Command"] = {
    "create": Command("FILE.yaml|URL|template:NAME|-", "Create an instance of Lima", "lifecycle:create", CREATE, 0, 1),
    "start": Command(
        "NAME|FILE.yaml|URL",
        "Start an instance of Lima",
        "lifecycle:start",
        (
            *CREATE,
            _TIMEOUT,
            _PROGRESS,
            Flag("foreground", "", "bool", refused="no Interlock process stays beside the instance"),
        ),
        0,
        1,
    ),
    "stop": Command("INSTANCE", "Stop an instance", "lifecycle:stop", (_FORCE,), 0, 1),
    "restart": Command(
        "INSTANCE", "Restart a running instance", "lifecycle:restart", (_FORCE, _TIMEOUT, _PROGRESS, *EDITS), 0, 1
    ),
    "delete": Command(
        "INSTANCE [INSTANCE, ...]",
        "Delete an instance of Lima",
        "lifecycle:delete",
        (_FORCE,),
        1,
        aliases=("remove", "rm"),
    ),
    "factory-reset": Command("INSTANCE", "Factory reset an instance of Lima", "lifecycle:factory_reset", (), 0, 1),
    "protect": Command("INSTANCE [INSTANCE, ...]", "Protect an instance from removal", "lifecycle:protect", (), 1),
    "unprotect": Command("INSTANCE [INSTANCE, ...]", "Unprotect an instance", "lifecycle:unprotect", (), 1),
    "clone": Command("OLDINST NEWINST", "Clone an instance of Lima", "lifecycle:clone", (_START, *EDITS), 2, 2),
    "rename": Command("OLDINST NEWINST", "Rename an instance of Lima", "lifecycle:rename", (_START, *EDITS), 2, 2),
    "edit": Command("INSTANCE", "Edit an instance of Lima", "lifecycle:edit", (_START, *EDITS), 0, 1),
    "list": Command(
        "[flags] [INSTANCE]...",
        "List instances of Lima",
        "listing:list_",
        (
            Flag("format", "json, yaml, table, or a Go template", short="f", values=("json", "yaml", "table")),
            Flag("json", "Same as --format=json", "bool"),
            Flag("quiet", "Only show names", "bool", "q"),
            Flag("list-fields", "List fields available for format", "bool"),
            Flag("all-fields", "Show all fields", "bool"),
            Flag("filter", "Only instances for which a query is true", "texts", "l"),
            _YQ,
        ),
        aliases=("ls",),
    ),
    "watch": Command(
        "[flags] [INSTANCE]...",
        "Watch events from instances",
        "watching:watch",
        (
            Flag("json", "JSON lines", "bool"),
            Flag("history", "Include what happened before", "bool"),
            Flag("verbose", "Include the steps of each transition", "bool"),
        ),
    ),
    "info": Command("", "Show diagnostic information", "listing:info", (_YQ,), 0, 0),
    "shell": Command(
        "[flags] INSTANCE [COMMAND...]",
        "Execute shell in Lima",
        "guest:shell",
        (
            Flag("workdir", "Working directory"),
            Flag("shell", "Shell interpreter, e.g. /bin/bash"),
            Flag("preserve-env", "Propagate environment variables to the shell", "bool"),
            Flag("start", "Start the instance if it is not running", "bool"),
            Flag("instance", "The instance, instead of the first argument"),
            Flag("reconnect", "", "bool", refused="each shell is a session of its own"),
            Flag("sync", "", refused="use `limactl copy -r`"),
        ),
        passes_on=True,
    ),
    "copy": Command(
        "SOURCE ... TARGET",
        "Copy files between host and guest",
        "guest:copy",
        (
            Flag("recursive", "Copy directories recursively", "bool", "r"),
            Flag("verbose", "Enable verbose output", "bool", "v"),
            Flag("backend", "auto, rsync or scp", values=("auto", "rsync", "scp")),
        ),
        2,
        aliases=("cp",),
    ),
    "tunnel": Command(
        "[flags] INSTANCE",
        "Create a tunnel for Lima",
        "guest:tunnel",
        (
            Flag("type", "Tunnel type: socks", values=("socks",)),
            Flag("socks-port", "SOCKS port; a free one by default", "int"),
        ),
        1,
        1,
    ),
    "show-ssh": Command(
        "[flags] INSTANCE",
        "Show the ssh command line",
        "guest:show_ssh",
        (Flag("format", "cmd, args, options or config", short="f", values=("cmd", "args", "options", "config")),),
        1,
        1,
    ),
    "disk": {
        "create": Command(
            "DISK",
            "Create a Lima disk",
            "disks:create",
            (Flag("size", "Size of the disk"), Flag("format", "qcow2 or raw", values=("qcow2", "raw"))),
            1,
            1,
        ),
        "list": Command(
            "[DISK]...",
            "List existing Lima disks",
            "disks:list_",
            (Flag("json", "JSON lines", "bool"),),
            aliases=("ls",),
        ),
        "delete": Command(
            "DISK [DISK, ...]", "Delete Lima disks", "disks:delete", (_FORCE,), 1, aliases=("remove", "rm")
        ),
        "resize": Command("DISK", "Resize a Lima disk", "disks:resize", (Flag("size", "The new size"),), 1, 1),
        "import": Command("DISK FILE", "Import a disk", "disks:import_", (), 2, 2),
        "unlock": Command("DISK [DISK, ...]", "Unlock Lima disks", "disks:unlock", (), 1),
    },
    "snapshot": {
        "create": Command("INSTANCE", "Create (save) a snapshot", "snapshots:create", _TAG, 1, 1, aliases=("save",)),
        "apply": Command("INSTANCE", "Apply (load) a snapshot", "snapshots:apply", _TAG, 1, 1, aliases=("load",)),
        "delete": Command("INSTANCE", "Delete (del) a snapshot", "snapshots:delete", _TAG, 1, 1, aliases=("del",)),
        "list": Command(
            "INSTANCE",
            "List existing snapshots",
            "snapshots:list_",
            (Flag("quiet", "Only show tags", "bool", "q"),),
            1,
            1,
            aliases=("ls",),
        ),
    },
    "autostart": {
        "enable": Command(
            "INSTANCE",
            "Register an instance to start automatically",
            "autostart:enable",
            (Flag("condition", "When: login"),),
            1,
            1,
        ),
        "disable": Command("INSTANCE", "Unregister an instance from automatic startup", "autostart:disable", (), 1, 1),
    },
    "start-at-login": Command(
        "INSTANCE",
        "Register an instance to start at login (deprecated: autostart)",
        "autostart:at_login",
        (Flag("enabled", "Set to false to unregister the instance", "bool"),),
        0,
        1,
    ),
    "validate": Command("FILE.yaml [FILE.yaml, ...]", "Validate YAML templates", "templates:validate", (_FILL,), 1),
    "template": {
        "copy": Command(
            "[OPTIONS] TEMPLATE DEST",
            "Copy template",
            "templates:copy",
            (
                Flag("embed", "Embed external dependencies into template", "bool"),
                Flag("embed-all", "Embed all dependencies into template", "bool"),
                Flag("verbatim", "Don't make locators absolute", "bool"),
                _FILL,
            ),
            1,
            2,
            aliases=("cp",),
        ),
        "validate": Command("TEMPLATE [TEMPLATE, ...]", "Validate YAML templates", "templates:validate", (_FILL,), 1),
        "yq": Command("TEMPLATE EXPR", "Query template expressions", "templates:yq", (), 2, 2),
        "url": Command("CUSTOM_URL", "Show the locator of a template as Lima 2 writes it", "templates:url", (), 1, 1),
    },
    "network": {
        "list": Command(
            "[NETWORK]...", "List networks", "networks:list_", (Flag("json", "JSON lines", "bool"),), aliases=("ls",)
        ),
        "create": Command(
            "NETWORK",
            "Create a Lima network (refused: there is one, user-v2)",
            "networks:create",
            (Flag("mode", "Mode"), Flag("gateway", "Gateway"), Flag("interface", "Interface of mode bridged")),
            1,
            1,
        ),
        "delete": Command(
            "NETWORK [NETWORK, ...]",
            "Delete one or more Lima networks",
            "networks:delete",
            (_FORCE,),
            1,
            aliases=("remove", "rm"),
        ),
    },
    "sudoers": Command(
        "[--check [SUDOERSFILE-TO-CHECK]]",
        "Generate the content of the /etc/sudoers.d/lima file (refused: nothing needs root)",
        "networks:sudoers",
        (Flag("check", "Check that the file is up to date", "bool"),),
        0,
        1,
    ),
    "yq": Command(
        "[eval] EXPRESSION [FILE]...",
        "Query YAML or JSON with jq",
        "queries:yq",
        (
            Flag("unwrapScalar", "Print a text without quotes; the default for YAML", "bool", "r"),
            Flag("input-format", "auto, yaml or json", short="p"),
            Flag("output-format", "auto, yaml or json", short="o"),
            Flag("indent", "Spaces per level; 0 prints JSON on one line", "int", "I"),
            Flag("null-input", "Read no input; start from null", "bool", "n"),
            Flag("exit-status", "Exit with code 1 if the last result is null, false or missing", "bool", "e"),
            Flag("prettyPrint", "No effect: output is always pretty-printed", "bool", "P"),
            Flag("inplace", "", "bool", "i", refused="a file is not changed here, because its comments would be lost"),
        ),
        1,
    ),
    "completion": {
        **{
            shell: Command("", f"Generate the autocompletion script for {shell}", "completion:script", _PLAINLY, 0, 0)
            for shell in ("bash", "zsh", "fish")
        },
        "powershell": Command("", "Refused: PowerShell is not supported here", "completion:script", _PLAINLY, 0, 0),
    },
    "prune": Command(
        "",
        "Prune garbage objects",
        "lifecycle:prune",
        (Flag("keep-referred", "No effect: images that an instance uses are always kept", "bool"),),
        0,
        0,
    ),
}
"""Name → the command, or for a group its commands by name."""

ELSEWHERE = {
    "screenshot": "guests have no display here",
    "guest-install": "guests need no agent here",
    "mcp": "there are no plugins here",
    "hostagent": "no Interlock process stays beside an instance",
    "usernet": "no Interlock process stays beside an instance",
    "debug": "use --debug",
    "generate-doc": "there is `man interlock`",
    "generate-jsonschema": "use `interlock template schema`",
}
"""Unsupported command of limactl → why, or what to do instead."""
