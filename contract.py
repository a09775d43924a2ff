"""What Interlock prints for programs, as data: each record with its keys, their types, units and meaning.

docs/reference/json.md and the JSON Schemas in schemas/, which are installed with the package, are generated from this
module. The functional tests compare each line that a command prints with it. A key is never removed and keeps its
meaning; a key that is added to the `to_json` of a record is added here too.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from .errors import BY_REFERENCE
from .fsm.happening import Happening
from .fsm.spec import Spec
from .fsm.states import State
from .fsm.table import TABLE, Trigger
from .host.unneeded import KINDS

Schema = dict[str, Any]
"""A JSON Schema. Source: json-schema.org, draft 2020-12."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"

TEXT: Schema = {"type": "string"}
TIME: Schema = {"type": "string", "format": "date-time"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SECONDS: Schema = {"type": "number", "minimum": 0}
TEXTS: Schema = {"type": "array", "items": TEXT}
BY_NAME: Schema = {"type": "object", "additionalProperties": TEXT}
ANYTHING: Schema = {"type": "object"}


EXIT_CODE: Schema = {"enum": sorted({kind.exit_code for kind in BY_REFERENCE.values()})}


def one_of(words: Any) -> Schema:
    """Return the schema of one of `words`."""
    return {"enum": [str(word) for word in words]}


class Key(NamedTuple):
    """One key of a record."""

    shape: Schema
    meaning: str
    null: bool = False
    """True if the value may be null."""
    optional: bool = False
    """True if the key may be missing."""

    def schema(self) -> Schema:
        """Return the schema of the value, with its meaning."""
        shape = self.shape
        if self.null:
            shape = {"enum": [*shape["enum"], None]} if "enum" in shape else {**shape, "type": [shape["type"], "null"]}
        return {**shape, "description": self.meaning} if self.meaning else shape


Keys = Mapping[str, Key]


def record(keys: Keys) -> Schema:
    """Return the schema of an object with `keys`. It allows more keys, because later versions may add some."""
    return {
        "type": "object",
        "required": [name for name, key in keys.items() if not key.optional],
        "properties": {name: key.schema() for name, key in keys.items()},
    }


class Kind(NamedTuple):
    """One kind of record, and the commands that print it."""

    title: str
    commands: tuple[str, ...]
    keys: Keys
    also: str = ""
    """A remark about the record as a whole."""

    def schema(self, name: str) -> Schema:
        """Return the content of schemas/NAME.schema.json."""
        title = f"{self.title}: {', '.join(self.commands)}" if self.commands else self.title
        return {"$schema": DIALECT, "$id": f"interlock:{name}", "title": title, **record(self.keys)}


def _fields(kind: type) -> Keys:
    """Return a key for each field of one of the records of `fsm.spec`, where their meaning is documented."""
    shapes = {str: TEXT, int: COUNT, float: SECONDS, bool: FLAG}
    return {
        name: Key(
            shapes.get(of) or {"type": "array", "items": record(_fields(get_args(of)[0]))},
            "",
            optional=name in kind._field_defaults,  # type: ignore[attr-defined] # it is a NamedTuple
        )
        for name, of in kind.__annotations__.items()
    }


STATE = one_of(State)
TRIGGER = one_of(Trigger)

ERROR: Keys = {
    "reference": Key(one_of(BY_REFERENCE), "what a program should look at; errors.md lists them"),
    "message": Key(TEXT, "what is wrong, in one sentence"),
    "hint": Key(TEXT, "a command that works as typed", null=True),
    "details": Key(TEXTS, "the words of another program that failed, line by line"),
}

OPERATION: Keys = {
    "trigger": Key(TRIGGER, "which transition"),
    "step": Key(TEXT, "the step it has reached, in words"),
    "since": Key(TIME, "when it began"),
    "elapsed_s": Key(SECONDS, "how long ago that was"),
    "deadline": Key(TIME, "when it will be given up", null=True),
    "pid": Key(COUNT, "the process that works on it"),
    "command": Key(TEXT, "the command line of that process"),
    "interrupted": Key(FLAG, "true when that process is dead or left it; the next command that writes settles it"),
    "suspended": Key(FLAG, "true when that process is suspended (Ctrl-Z): `kill -CONT PID` lets it continue"),
}

SCREEN: Keys = {
    "address": Key(TEXT, "address and TCP port of this host to lead a VNC viewer to: `127.0.0.1:5900`"),
    "password_file": Key(TEXT, "the file that holds the password, which is a new one for each run"),
}

PORT: Keys = {
    "guest_ip": Key(TEXT, "where it leads to in the guest"),
    "guest_port": Key(COUNT, "the port there"),
    "host_ip": Key(TEXT, "the address of this host that leads there"),
    "host_port": Key(COUNT, "the port there"),
    "problem": Key(TEXT, "why it does not: another program has the host's port", null=True),
}

ACTOR: Keys = {
    "pid": Key(COUNT, "the process that wrote the line"),
    "started_ticks": Key(COUNT, "when it started, in clock ticks since the host's boot: pids are reused"),
    "boot_id": Key(TEXT, "the boot of the host in which it ran"),
    "command": Key(TEXT, "its command line"),
}

_LINE: Keys = {
    "seq": Key(COUNT, "1, 2, 3, ... without gaps; the first line that is kept may have a higher one"),
    "time": Key(TIME, "when it was written"),
    "trigger": Key(TEXT, "what happens; a newer version may write words that this one does not know"),
    "source": Key(TEXT, "the state it came from"),
    "dest": Key(TEXT, "the state it leads to"),
    "phase": Key(TEXT, "`begun`, `step`, `done`, `failed`, `left` or `undone`"),
    "elapsed_s": Key(SECONDS, "since it began"),
    "step": Key(TEXT, "the step, in words", optional=True),
    "deadline": Key(TIME, "when the work is to be given up", optional=True),
    "detail": Key(TEXT, "how it ended, in words: `guest shut down`", optional=True),
    "error": Key(ANYTHING, "why it failed: `reference`, `message`, `hint`, `details`", optional=True),
    "former": Key(TEXT, "of a rename: the name before", optional=True),
    "asked": Key(
        ANYTHING,
        "what it was asked for with: the `tag` of a snapshot, `cold`, `full`, the number of a `restart`",
        optional=True,
    ),
    "kept": Key(TEXT, "the reason of the state before this line, where that still holds", optional=True),
    "version": Key(TEXT, "the version of Interlock that wrote it; 0.1.0 left it out", optional=True),
    "schema": Key(COUNT, "of the line; left out while it is 1", optional=True),
    "actor": Key(record(ACTOR), "who wrote it"),
}

STEP: Keys = {
    "name": Key(TEXT, "the instance"),
    "trigger": Key(TRIGGER, "which transition"),
    "source": Key(STATE, "the state that it would come from"),
    "dest": Key(STATE, "the state that it would lead to"),
    "appear": Key(TEXTS, "files that would appear or be replaced; a folder with all that is in it ends with a slash"),
    "vanish": Key(TEXTS, "files that would go or be replaced"),
    "command": Key(TEXTS, "the hypervisor's command line; empty where it is not run, or not known yet"),
    "notes": Key(TEXTS, "what else there is to know, in words"),
}

DIFFERENCE: Keys = {
    "what": Key(
        TEXT,
        "`missing`, `extra` (the file does not name it), `fleet` (it was not created for this one), `damage`, `state`, "
        "`cpus`, `memory`, `disk`, `template`, `driver`, `cluster`, `arch`, `user`, or `set.` and a key",
    ),
    "found": Key(TEXT, "what it is, in words; of `set` a digest", null=True),
    "file": Key(TEXT, "what the file says, likewise", null=True),
}

KINDS_OF_RECORDS: dict[str, Kind] = {
    "status": Kind(
        "An instance",
        ("list", "inspect", "wait"),
        {
            "name": Key(TEXT, "the instance"),
            "state": Key(STATE, "where it is in its lifecycle"),
            "operation": Key(record(OPERATION), "what is being done to it", null=True),
            "alive": Key(FLAG, "whether its hypervisor lives; null at rest, where only Interlock starts it", null=True),
            "pid": Key(COUNT, "its hypervisor's process", null=True),
            "condition": Key(TEXT, "what is wrong with one that is alive", null=True),
            "reason": Key(
                TEXT, "how it came to its state when nobody asked, or why the last operation failed", null=True
            ),
            "damage": Key(TEXT, "why its files cannot be understood; then the keys of the spec are null", null=True),
            "protected": Key(FLAG, "true while reset and delete are refused"),
            "autostart": Key(FLAG, "true when it starts as its user logs in"),
            "memory_saved": Key(FLAG, "true while the guest's memory is saved; the next start continues from it"),
            "changed_at": Key(TIME, "time of the journal's last line", null=True),
            "driver": Key(TEXT, "what runs it", null=True),
            "arch": Key(TEXT, "of the guest: `x86_64` or `aarch64`", null=True),
            "cpus": Key(COUNT, "processors of the guest", null=True),
            "memory_bytes": Key(COUNT, "memory of the guest", null=True),
            "disk_bytes": Key(COUNT, "size of the guest's own disk", null=True),
            "user": Key(TEXT, "the guest's login", null=True),
            "ssh_port": Key(COUNT, "TCP port on the loopback that leads to the guest's sshd, while it runs", null=True),
            "accelerator": Key(
                TEXT, "what runs the guest's code while it is alive: `kvm`, or `tcg` where it is emulated", null=True
            ),
            "cpu_s": Key(SECONDS, "processor time that its hypervisor has used since it was started", null=True),
            "resident_bytes": Key(
                COUNT, "memory of this host that its hypervisor has in use; what forks share counts for each", null=True
            ),
            "uptime_s": Key(SECONDS, "how long ago its hypervisor was started", null=True),
            "ports": Key(
                {"type": "array", "items": record(PORT)}, "those that opened in the guest, and that its rules forward"
            ),
            "vnc": Key(record(SCREEN), "where the guest's screen is shown, if it has one", null=True),
            "node": Key(TEXT, "the node of its cluster that has it; null where this host runs it", null=True),
            "directory": Key(TEXT, "where its files lie"),
            "host": Key(TEXT, "`list --all-hosts`: the host that has it; `local` is this one", optional=True),
            "spec": Key(record(_fields(Spec)), "`inspect`: the whole machine, as `fsm/spec.py` says", optional=True),
            "logs": Key(BY_NAME, "`inspect`: the log files by name", optional=True),
            "can": Key(
                {"type": "array", "items": TRIGGER}, "`inspect`: the triggers that are legal now", optional=True
            ),
        },
        "`inspect` has `spec`, `logs` and `can` unless the instance is damaged.",
    ),
    "outcome": Kind(
        "What came of a transition",
        (
            *(str(row.command or row.trigger) for row in TABLE if row.recorded and not row.observed),
            "up",
            "restart",
            "adopt",
            "cluster failover",
            "cluster evacuate",
        ),
        {
            "name": Key(TEXT, "the instance; of `rename`, its new name"),
            "trigger": Key(TRIGGER, "the last transition that was asked for"),
            "state": Key(STATE, "the state it is in now"),
            "changed": Key(FLAG, "false when what was asked for was already so"),
            "detail": Key(
                TEXT,
                'how it ended, in words: `guest shut down`, `the copy is "copy"`; of a snapshot its tag',
                null=True,
            ),
            "elapsed_s": Key(SECONDS, "how long it took, with waiting"),
            "steps": Key(
                {"type": "array", "items": record(STEP)},
                "with `--dry-run`, and only then: the transitions that would take place, in order. Nothing is done "
                "then; `state` and `changed` say what would be",
                optional=True,
            ),
        },
    ),
    "fleet": Kind(
        "An instance of a fleet",
        ("fleet status", "fleet apply"),
        {
            "fleet": Key(TEXT, "the fleet"),
            "name": Key(TEXT, "the instance"),
            "state": Key(STATE, "the state it is in; of `apply`, before"),
            "differences": Key(
                {"type": "array", "items": record(DIFFERENCE)},
                "what is not as the file says; empty where all is; null without a file to compare with",
                null=True,
            ),
            "rows": Key({"type": "array", "items": TRIGGER}, "the transitions that `apply` carries out, in order"),
            "edits": Key(TEXTS, "what an `edit` among them changes: `cpus=4`"),
            "consent": Key(FLAG, "true when these delete the instance or restart its guest"),
            "extra": Key(FLAG, "true when the file does not name it: only `--prune` deletes it"),
            "mend": Key(TEXT, "the command for what `apply` does not do", null=True),
            "done": Key(
                FLAG, "`apply`, and not with `--dry-run`: true when the instance is as the file says now", optional=True
            ),
        },
    ),
    "mending": Kind(
        "What came of a repair",
        ("repair",),
        {
            "name": Key(TEXT, "the instance"),
            "state": Key(STATE, "the state it is in now"),
            "mended": Key(TEXTS, "what was wrong and is no more, in words; empty when nothing was"),
        },
    ),
    "verdict": Kind(
        "What is legal",
        ("can",),
        {
            "name": Key(TEXT, "the instance"),
            "trigger": Key(TRIGGER, "what could be asked for"),
            "state": Key(STATE, "the state it is in now"),
            "legal": Key(FLAG, "the table has a row for this trigger in this state, and there is something to do"),
            "holds": Key(FLAG, "it would succeed without doing anything"),
            "why": Key(TEXT, "the row's reason, or why it is refused"),
            "hint": Key(TEXT, "the command to type", null=True),
        },
    ),
    "line": Kind("The journal, line for line", ("history",), _LINE),
    "change": Kind(
        "What happens, as it happens",
        ("watch",),
        {
            "name": Key(TEXT, "the instance"),
            "event": Key(
                one_of([*Happening, "condition_changed"]),
                "as in [messages](messages.md); null for a line of a newer version that this one has no word for",
                null=True,
            ),
            "condition": Key(
                TEXT,
                "of `condition_changed`: what is wrong with the machine, null when nothing is any more",
                null=True,
                optional=True,
            ),
            "message": Key(TEXT, "the sentence for people"),
            **{name: key._replace(optional=name != "time") for name, key in _LINE.items()},
        },
        "Each is a line of `history`, or a change of a machine's condition, which has `time` alone of its keys.",
    ),
    "snapshot": Kind(
        "A snapshot",
        ("snapshot list", "snapshot show"),
        {
            "tag": Key(TEXT, "what it is called"),
            "created_at": Key(TEXT, "when it was taken; empty if its record cannot be read"),
            "parent": Key(TEXT, "the snapshot that the disk came from when it was taken", null=True),
            "memory_bytes": Key(COUNT, "what the memory in it takes up; null where it holds the disk alone", null=True),
            "current": Key(FLAG, "true for the one that the disk comes from now"),
            "depth": Key(COUNT, "how many snapshots lie between it and the image"),
        },
    ),
    "disk": Kind(
        "A disk that outlives instances",
        ("disk create", "disk import", "disk list", "disk inspect", "disk resize", "disk delete"),
        {
            "name": Key(TEXT, "the disk"),
            "format": Key(one_of(("qcow2", "raw")), "of its file"),
            "size_bytes": Key(COUNT, "what a guest sees; null when the file is damaged", null=True),
            "used_bytes": Key(COUNT, "what it takes on the host's disk"),
            "instances": Key(TEXTS, "those that have it attached, running or not"),
            "in_use_by": Key(TEXT, "the process that has it open, in words", null=True),
            "path": Key(TEXT, "its file"),
        },
    ),
    "node": Kind(
        "A node of a cluster",
        ("cluster nodes",),
        {
            "cluster": Key(TEXT, "its cluster"),
            "name": Key(TEXT, "the node"),
            "group": Key(TEXT, "the group of nodes that it is in"),
            "up": Key(FLAG, "whether it answers"),
            "condition": Key(TEXT, "why no machine is placed on it: `drained`, `offline`", null=True),
            "memory_bytes": Key(COUNT, "its memory; null where it does not answer", null=True),
            "free_bytes": Key(COUNT, "of that, what is free", null=True),
            "instances": Key(COUNT, "how many machines it has, anyone's"),
        },
    ),
    "image": Kind(
        "An image",
        ("image build", "image import", "image list", "image inspect", "image delete", "image warm"),
        {
            "name": Key(TEXT, "with `arch`, it names an image"),
            "arch": Key(TEXT, "`x86_64` or `aarch64`"),
            "kind": Key(
                one_of(("built", "fetched", "imported")),
                "built here, fetched for a template, imported by hand; `build:NAME` finds all but fetched ones",
            ),
            "size_bytes": Key(COUNT, "of all its files"),
            "boot": Key(TEXTS, "the ways it boots, the fastest first"),
            "first_boot": Key(TEXTS, "the form of the seed for each of these"),
            "instances": Key(TEXTS, "the names of those that use it"),
            "warm": Key(
                {
                    "type": "array",
                    "items": record(
                        {
                            "driver": Key(TEXT, "what runs such machines"),
                            "cpus": Key(COUNT, "virtual processors"),
                            "memory_bytes": Key(COUNT, "of the machine"),
                            "disk_bytes": Key(COUNT, "of the machine"),
                            "size_bytes": Key(COUNT, "what it takes on the host's disk"),
                            "created_at": Key(TIME, "when it was made"),
                            "version": Key(TEXT, "of the Interlock that made it"),
                            "instances": Key(TEXTS, "the names of those that began from it, or will"),
                        }
                    ),
                },
                "its warm images: machines of these sizes begin from one instead of booting",
            ),
            "origin": Key(TEXT, "where it came from, in words: a URL, a path, a release"),
            "created_at": Key(TIME, "when it came into the store"),
            "files": Key(
                {
                    "type": "object",
                    "additionalProperties": record(
                        {"digest": Key(TEXT, "`sha256:...`"), "size_bytes": Key(COUNT, "of the file")}
                    ),
                },
                "by role, `disk`, `kernel` or `initrd`: `digest` and `size_bytes` of the file in the store",
            ),
            "kernel_arguments": Key(TEXT, "`inspect`: the command line when it boots by `kernel`", optional=True),
            "made_of": Key(
                ANYTHING,
                "`inspect`: of one that was built, `recipe`, `suite`, `packages` asked for, `script` (its digest); of "
                "others, by role, `location` and `digest` of the file as published, `version` of a local file",
                optional=True,
            ),
            "packages": Key(
                BY_NAME,
                "`inspect`: name → version of each Debian package in it; empty where nothing in the image says so",
                optional=True,
            ),
        },
    ),
    "unneeded": Kind(
        "What nothing needs",
        ("prune", "image prune"),
        {
            "what": Key(one_of(KINDS), "what it is"),
            "name": Key(
                TEXT,
                "of an image, warm or not; of a download where it came from; of a log `INSTANCE/FILE`; else its path",
            ),
            "arch": Key(TEXT, "of an image, warm or not", null=True),
            "size_bytes": Key(COUNT, "what its removal frees; a file that several share counts for the first of them"),
        },
    ),
    "check": Kind(
        "A finding about this host",
        ("doctor",),
        {
            "subject": Key(TEXT, "what was looked at"),
            "ok": Key(FLAG, "true when all is well"),
            "finding": Key(TEXT, "what was found"),
            "mend": Key(TEXT, "the command that fixes it", null=True),
            "essential": Key(FLAG, "false when only some uses need it"),
        },
    ),
    "template": Kind(
        "A built-in template",
        ("template list",),
        {"name": Key(TEXT, "the template"), "summary": Key(TEXT, "the sentence its text begins with")},
    ),
    "validation": Kind(
        "What is wrong with a template",
        ("template validate",),
        {
            "template": Key(TEXT, "what was checked"),
            "result": Key(TEXT, "`ok`, or how many mistakes it has"),
            "notes": Key(TEXTS, "what is right and is ignored, or could reach this host"),
            "mistakes": Key(TEXTS, "each with its place"),
        },
    ),
    "template-copy": Kind(
        "A template that was copied",
        ("template copy",),
        {
            "template": Key(TEXT, "what was copied"),
            "file": Key(TEXT, "the file that was written; `-` for none"),
            "text": Key(TEXT, "the copy, where the file is `-`", optional=True),
        },
    ),
    "template-language": Kind(
        "The JSON Schema of templates, or of fleets",
        ("template schema", "fleet schema"),
        {
            "$schema": Key(TEXT, "the dialect"),
            "title": Key(TEXT, "what it is the schema of"),
            "description": Key(TEXT, "of what it is the schema, in words"),
            "type": Key(TEXT, "`object`"),
            "properties": Key(ANYTHING, "the keys of a template, or of a fleet's file"),
            "additionalProperties": Key(FLAG, "false: an unknown key is a mistake"),
            "$defs": Key(ANYTHING, "what is used in several places"),
        },
        "Not a record but a schema, on one line with `--json`.",
    ),
    "text": Kind(
        "A text for people",
        ("help", "template show"),
        {
            "about": Key(TEXT, "the command, the topic or the template; empty for all of the program"),
            "text": Key(TEXT, "what is printed without `--json`"),
        },
        "Printed by `--help` of every command, too.",
    ),
    "lifecycle": Kind(
        "The table of transitions",
        ("diagram",),
        {
            "initial": Key(STATE, "where an instance begins"),
            "current": Key(STATE, "the state of the instance that was named", null=True),
            "states": Key(
                {
                    "type": "array",
                    "items": record(
                        {
                            "name": Key(STATE, "the state"),
                            "promise": Key(TEXT, "what is true of the world in it"),
                            "legal": Key({"type": "array", "items": TRIGGER}, "the triggers that are legal in it"),
                        }
                    ),
                },
                "each with `name`, `promise`: what is true of the world in it, and `legal`: the triggers legal in it",
            ),
            "rows": Key({"type": "array", "items": ANYTHING}, "the rows, with their columns by name"),
            "recovery": Key(
                {
                    "type": "array",
                    "items": record({"name": Key(TEXT, "as in the rows"), "rule": Key(TEXT, "what it does")}),
                },
                "the rules for what a crash cut short, each with `name` and `rule`",
            ),
        },
    ),
    "completed": Kind(
        "How a command ended in a guest",
        ("run", "shell"),
        {
            "name": Key(TEXT, "the instance"),
            "status": Key(COUNT, "its exit status, with which the program ends, too; 255 may also be ssh's own"),
            "stdout": Key(TEXT, "all that it wrote there, up to 64 MiB; bytes that are not UTF-8 are replaced"),
            "stderr": Key(TEXT, "likewise"),
        },
        "A command that writes more is ended, with the error `driver-failed`; one that exceeds `--timeout` with "
        "`deadline-passed`. `shell` without a command has no result and is refused.",
    ),
    "copied": Kind(
        "What was copied",
        ("copy",),
        {"sources": Key(TEXTS, "as they were given"), "target": Key(TEXT, "likewise")},
        "Where scp fails, the error is `driver-failed` with its words in `details`.",
    ),
    "ssh": Kind(
        "How ssh reaches a guest",
        ("ssh-config",),
        {
            "name": Key(TEXT, "the instance; `ssh -F PATH NAME` reaches it"),
            "path": Key(TEXT, "the file, an ssh_config(5)"),
            "options": Key(
                BY_NAME, "what is in it, by names in lower case: `hostname`, `port`, `user`, `identityfile`, ..."
            ),
        },
    ),
    "tunnel": Kind(
        "A tunnel that is open",
        ("tunnel",),
        {
            "name": Key(TEXT, "the instance"),
            "host_ip": Key(TEXT, "the address of this host that leads to the guest"),
            "host_port": Key(COUNT, "the port there"),
            "guest_port": Key(COUNT, "the port that it leads to; null for a SOCKS proxy", null=True),
        },
        "Printed once the port is open; the command ends when it is interrupted, with exit code 130.",
    ),
    "log-line": Kind(
        "A line of a log",
        ("logs",),
        {
            "name": Key(TEXT, "the instance"),
            "log": Key(TEXT, "which of its logs: `serial`, `qemu`"),
            "line": Key(TEXT, "the line, without its end; one of more than 64 KiB is several"),
        },
    ),
    "autostart": Kind(
        "Whether an instance starts at login",
        ("autostart enable", "autostart disable"),
        {
            "name": Key(TEXT, "the instance"),
            "autostart": Key(FLAG, "whether it does from now on"),
            "changed": Key(FLAG, "false when that was already so"),
        },
    ),
    "program": Kind("A program that was written", ("install-limactl",), {"path": Key(TEXT, "the file")}),
    "version": Kind(
        "The version", ("--version",), {"name": Key(TEXT, "`interlock`"), "version": Key(TEXT, "its version")}
    ),
    "failure": Kind(
        "What went wrong",
        (),
        {
            "name": Key(TEXT, "the instance that it is about", null=True),
            "host": Key(TEXT, "`list --all-hosts`: the host that does not answer", optional=True),
            "error": Key(
                record({**ERROR, "exit_code": Key(EXIT_CODE, "what the command ends with")}),
                "what stderr says of it, too",
            ),
        },
        "With `--json`, by every command; of several instances, each has its result or its error.",
    ),
}
"""Name of the schema → the kind of record."""

OF_COMMAND = {command: name for name, kind in KINDS_OF_RECORDS.items() for command in kind.commands}
"""Command → the name of the schema of its records."""

WITHOUT_RESULT = ("top", "limactl")
"""Commands without a record: `top` shows a view on a terminal and refuses --json; the output of `limactl` is that of
the other program."""
