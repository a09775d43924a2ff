"""The part of Go's templates that `list --format` understands."""

import json

import pytest

from interlock.commands.go_template import compiled

RECORD = {"name": "web", "cpus": 2, "memory_bytes": 1024, "ssh_port": None, "protected": False, "status": "running"}
KEYS = frozenset(RECORD)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.Name}}", "web"),
        ("{{ .Name }}: {{.Status}}", "web: running"),
        (r"{{.Name}}\t{{.CPUs}}\n", "web\t2\n"),
        ("{{- .MemoryBytes -}}", "1024"),
        ("{{.Memory}}", "1024"),
        ("[{{.SSHLocalPort}}]", "[]"),
        ("{{json .Name}} {{json .SshPort}}", '"web" null'),
        ("{{json .}}", json.dumps(RECORD)),
        ('{{if eq .Status "running"}}up{{else if .Protected}}kept{{else}}down{{end}}', "up"),
        ("{{if .Protected}}kept{{else if gt .Cpus 1}}large{{end}}", "large"),
        ('{{printf "%-5s|%3d|%q" .Name .Cpus .Name}}', 'web  |  2|"web"'),
        ("{{.Name | printf `%s!` | len}}", "4"),
        ("{{len (json .Name)}}{{/* a comment */}}", "5"),
        ("{{with .SshPort}}{{.}}{{else}}no port{{end}}", "no port"),
        ("a {{- .Name -}} b", "awebb"),
        ("{{.Protected}} {{not .Protected}} {{and .Name true}} {{or .SshPort 1.5}}", "false true true 1.5"),
        ("{{indent 2 .Name}}", "  web"),
        ("no field", "no field"),
    ],
)
def test_template_renders_a_record(template, expected):
    """Templates have fields in Go's spelling, JSON of one field or all, and text around them."""
    assert compiled(template, KEYS)(RECORD) == expected


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{.Colour}}", r"\.Colour is not one of the fields \.Cpus, \.MemoryBytes, \.Name"),
        ("{{upper .Name}}", 'function "upper" not defined; there are json, indent'),
        ("{{.Name .Name}}", r"{{\.Name \.Name}}: expected a field such as \.Name, or a function"),
        ("{{range .}}", "there is no {{end}}"),
        ("{{end}}", "there is nothing to end"),
        ("{{(len .Name}}", r"a \( has no \)"),
        ("{{len .Name)}}", r"unexpected \)"),
        ("{{$x}}", "expected a field"),
        ("{{}}", "expected a field"),
        ("{{.Name", "a {{ has no }}"),
    ],
)
def test_template_that_is_not_understood_is_refused_by_its_part(template, words):
    """A template with a part that is not understood prints nothing."""
    with pytest.raises(ValueError, match=words):
        compiled(template, KEYS)


def test_template_reads_lists_and_records_within_a_record():
    """`range` iterates over a list with the items' fields; a list or record prints as in Go."""
    record = {"errors": ["a", "b"], "disks": [{"name": "x"}, {"name": "y"}], "config": {"cpuType": {"arm": "max"}}}
    keys = frozenset(record)
    assert compiled("{{range .Errors}}<{{.}}>{{end}}", keys)(record) == "<a><b>"
    assert compiled("{{range .Disks}}{{.Name}}{{end}}", keys)(record) == "xy"
    assert compiled("{{.Config.CPUType}} {{.Errors}}", keys)(record) == "map[arm:max] [a b]"
    assert compiled('{{index .Config.CPUType "arm"}}', keys)(record) == "max"


def test_template_without_escapes_leaves_a_backslash_alone():
    r"""Like limactl, it prints `\t` outside of strings as it is."""
    assert compiled(r"{{.Name}}\t", KEYS, escapes=False)(RECORD) == r"web\t"


@pytest.mark.parametrize("template", ["{{.Name.First}}", "{{index .Name 7}}", "{{gt .Name 1}}"])
def test_template_that_fails_on_a_record_says_so(template):
    """A part that does not fit a value is a ValueError, never another exception of Python's."""
    with pytest.raises(ValueError, match=r"\.First|index|gt"):
        compiled(template, KEYS)(RECORD)
