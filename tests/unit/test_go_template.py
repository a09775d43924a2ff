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
        ("no field", "no field"),
    ],
)
def test_template_renders_a_record(template, expected):
    """Fields in Go's spelling, JSON of one or of all, and the text around them."""
    assert compiled(template, KEYS)(RECORD) == expected


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{.Colour}}", r"\.Colour is none of the fields \.Cpus, \.MemoryBytes, \.Name"),
        ("{{len .Name}}", r"{{len \.Name}}: expected a field such as \.Name"),
        ("{{range .}}", "expected a field"),
        ("{{}}", "expected a field"),
        ("{{.Name", "a {{ has no }}"),
    ],
)
def test_template_that_is_not_understood_is_refused_by_its_part(template, words):
    """Nothing is printed by a template of which a part means nothing here."""
    with pytest.raises(ValueError, match=words):
        compiled(template, KEYS)
