"""`--set KEY=VALUE` changes one value of a template; an error in it names the edit as its place."""

import pytest

from interlock.errors import InvalidTemplateError
from interlock.templates.document import compose, plain
from interlock.templates.edit import apply

TEXT = b"cpus: 2\nmounts:\n- location: /srv\nuser: {name: anna}\nprovision: [{file: x.sh}]\n"


def changed(*edits):
    """Return the content of the template after `edits`."""
    tree = compose("t", TEXT)
    for edit in edits:
        apply(tree, edit)
    return plain(tree)


@pytest.mark.parametrize(
    ("edit", "key", "value"),
    [
        ("cpus=4", "cpus", 4),
        (".cpus=4", "cpus", 4),
        (" cpus = 4", "cpus", 4),
        ("message=", "message", None),
        ("cpus=null", "cpus", None),
        ("message='4'", "message", "4"),
        ("message=a=b", "message", "a=b"),
        ("message={{.Name}} {{.Dir}}", "message", "{{.Name}} {{.Dir}}"),
        ("dns=[1.1.1.1, 8.8.8.8]", "dns", ["1.1.1.1", "8.8.8.8"]),
        ("mounts[0].writable=true", "mounts", [{"location": "/srv", "writable": True}]),
        ("mounts[1].location=/x", "mounts", [{"location": "/srv"}, {"location": "/x"}]),
        ("mounts[0]={location: /x}", "mounts", [{"location": "/x"}]),
        (".user.name=bert", "user", {"name": "bert"}),
        ("user.name=null", "user", {}),
        ("param.mode=dev", "param", {"mode": "dev"}),
        ("copyToHost[0].guest=/x", "copyToHost", [{"guest": "/x"}]),
        ('hostResolver.hosts."db.internal"=::1', "hostResolver", {"hosts": {"db.internal": "::1"}}),
        ('env."A=B"=c', "env", {"A=B": "c"}),
        ("vmOpts.qemu.cpuType.x86_64=max", "vmOpts", {"qemu": {"cpuType": {"x86_64": "max"}}}),
    ],
)
def test_edit_changes_the_value_it_names(edit, key, value):
    """The value is YAML; missing mappings are made, a list can grow by one item, and null removes a value."""
    assert changed(edit).get(key) == value


def test_edit_changes_nothing_else():
    """All other values stay."""
    assert {**changed("cpus=4"), "cpus": 2} == plain(compose("t", TEXT))


def test_edit_after_another_sees_what_that_one_made():
    """Edits are applied in order."""
    assert changed("mounts[1].location=/x", "mounts[2].location=/y", "mounts[1].location=/z")["mounts"] == [
        {"location": place} for place in ("/srv", "/z", "/y")
    ]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ("cpus", "--set cpus: expected KEY=VALUE, such as cpus=4 or mounts[0].writable=true"),
        ("", "--set : expected KEY=VALUE, such as cpus=4 or mounts[0].writable=true"),
        ("=4", "--set =…: expected KEY=VALUE, such as cpus=4 or mounts[0].writable=true"),
        ("[0]=4", "--set [0]=4: expected KEY=VALUE, such as cpus=4 or mounts[0].writable=true"),
        ("a b=4", "--set a b=…: expected KEY=VALUE, such as cpus=4 or mounts[0].writable=true"),
        ("mounts[x]=4", "--set mounts[x]=…: expected KEY=VALUE, such as cpus=4 or mounts[0].writable=true"),
        (
            "mounts[0]writable=4",
            "--set mounts[0]writable=…: expected KEY=VALUE, such as cpus=4 or mounts[0].writable=true",
        ),
        ("mounts[2].location=/x", "--set mounts[2].location=/x: mounts: there is no item 2; the list has 1"),
        ("mounts.location=/x", "--set mounts.location=/x: mounts: not a mapping"),
        ("user[0]=x", "--set user[0]=x: user: not a list"),
        ("cpus.x=1", "--set cpus.x=1: cpus: not a mapping"),
        ("cpus=[", "--set cpus=[: the text ends inside a list or mapping: ] or } is missing"),
        ("cpus=!x 1", "--set cpus=!x 1: the tag !x is not supported"),
        ("cpus=[\n", "--set cpus=[: the text ends inside a list or mapping: ] or } is missing"),
        (
            "base=" + "x" * 99,
            f"--set base={'x' * 55}...: files are read before --set applies: name this one in a template",
        ),
        ("base=x", "--set base=x: files are read before --set applies: name this one in a template"),
        ("env.A=[s3cret", "--set env.A=…: not YAML; put the value in quotes"),
        ("param.a=*s3cret", "--set param.a=…: not YAML; put the value in quotes"),
        ("env.A B=s3cret", "--set env.A B=…: expected KEY=VALUE, such as cpus=4 or mounts[0].writable=true"),
        (
            "provision[0].file=x",
            "--set provision[0].file=x: files are read before --set applies: name this one in a template",
        ),
    ],
)
def test_invalid_edit_is_reported_with_itself_as_its_place(edit, words):
    """The error quotes what was typed, without secret values."""
    with pytest.raises(InvalidTemplateError) as caught:
        changed(edit)
    assert words == caught.value.message
