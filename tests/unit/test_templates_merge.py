"""A base fills the gaps of a template, by the same rules as in Lima; entries with the same key are combined."""

import pytest

from interlock.templates.document import compose, plain
from interlock.templates.merge import combine, merge


def merged(template, *bases):
    """Return the content of `template` after merging the `bases` in order and combining entries."""
    tree = compose("template", template.encode())
    for base in bases:
        merge(tree, compose("base", base.encode()))
    combine(tree)
    return plain(tree)


@pytest.mark.parametrize(
    ("template", "base", "expected"),
    [
        ("", "vmType: qemu", {"vmType": "qemu"}),
        ("cpus: 1", "{cpus: 2, arch: x86_64}", {"cpus": 1, "arch": "x86_64"}),
        ("cpus: null", "cpus: 2", {}),
        ("mounts:", "mounts: [a]", {}),
        ("user: {name: null}", "user: {name: b, uid: 1}", {"user": {"uid": 1}}),
        ("cpus: 1", "cpus: null", {"cpus": 1}),
        ("user: {name: a}", "user: {name: b, uid: 1}", {"user": {"name": "a", "uid": 1}}),
        ("user: a", "user: {uid: 1}", {"user": "a"}),
        ("plain: false", "plain: true", {"plain": False}),
        ("message: ''", "message: hello", {"message": ""}),
        ("env: {A: 1}", "env: {A: 2, B: 2}", {"env": {"A": 1, "B": 2}}),
        ("images: [1]", "images: [2, 3]", {"images": [1, 2, 3]}),
        ("images: []", "images: [1]", {"images": [1]}),
        ("caCerts: {files: [a]}", "caCerts: {files: [b]}", {"caCerts": {"files": ["a", "b"]}}),
        ("provision: [a]", "provision: [b, c]", {"provision": ["b", "c", "a"]}),
        ("probes: [a]", "probes: [b]", {"probes": ["b", "a"]}),
        ("portForwards: [a]", "portForwards: [b]", {"portForwards": ["a", "b"]}),
        ("dns: [a]", "dns: [b, c]", {"dns": ["a"]}),
        ("dns: []", "dns: [b]", {"dns": ["b"]}),
        (
            "mountTypesUnsupported: [9p, a]",
            "mountTypesUnsupported: [9p, b]",
            {"mountTypesUnsupported": ["9p", "a", "b"]},
        ),
        ("minimumLimaVersion: 1.0.0", "minimumLimaVersion: 1.0.2", {"minimumLimaVersion": "1.0.2"}),
        ("minimumLimaVersion: 1.10.0", "minimumLimaVersion: 1.9.0", {"minimumLimaVersion": "1.10.0"}),
        (
            "vmOpts: {qemu: {minimumVersion: 8.2.1}}",
            "vmOpts: {qemu: {minimumVersion: 10.0.0}}",
            {"vmOpts": {"qemu": {"minimumVersion": "10.0.0"}}},
        ),
    ],
)
def test_base_fills_what_the_template_lacks(template, base, expected):
    """The template's values stay, mappings are merged by key, and lists are joined in the order of their kind."""
    assert expected == merged(template, base)


def test_null_of_one_base_keeps_off_the_next():
    """As in Lima, null counts as a value, and the first value wins."""
    assert merged("cpus: 1", "memory: null", "{memory: 3, disk: 4}") == {"cpus": 1, "disk": 4}


def test_bases_are_merged_one_after_the_other():
    """The first base has priority; the scripts of the last base come first."""
    base = ("{cpus: 2, provision: [b], images: [b]}", "{cpus: 3, memory: 3, provision: [c], images: [c]}")
    expected = {"cpus": 2, "memory": 3, "provision": ["c", "b", "a"], "images": ["a", "b", "c"]}
    assert expected == merged("{provision: [a], images: [a]}", *base)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("additionalDisks: [a, {name: a, format: true}]", [{"name": "a", "format": True}]),
        ("additionalDisks: [a, a]", ["a"]),
        ("additionalDisks: [{name: a, fsArgs: [x]}, {name: a, fsArgs: [y]}]", [{"name": "a", "fsArgs": ["x"]}]),
        (
            "additionalDisks: [a, {name: b, format: false}, {name: '*', format: true}, c]",
            [{"name": "a", "format": True}, {"name": "b", "format": False}, "c"],
        ),
        ("additionalDisks: [{name: '*', format: true}]", []),
        ("additionalDisks: [[x], 3, {format: true}]", [["x"], 3, {"format": True}]),
        ("mounts: [{location: a}, {location: a, writable: true}]", [{"location": "a", "writable": True}]),
        (
            "mounts: [{location: a, mountPoint: m}, {location: b, mountPoint: m, writable: true}]",
            [{"location": "a", "mountPoint": "m", "writable": True}],
        ),
        (
            "mounts: [{location: a}, {location: a, mountPoint: b, writable: true}]",
            [{"location": "a"}, {"location": "a", "mountPoint": "b", "writable": True}],
        ),
        (
            "mounts: [{location: a, 9p: {cache: none}}, {location: '*', 9p: {cache: mmap, msize: 1}}]",
            [{"location": "a", "9p": {"cache": "none", "msize": 1}}],
        ),
        (
            "networks: [{interface: l}, {metric: 2}, {interface: l, metric: 1}]",
            [{"interface": "l", "metric": 1}, {"metric": 2}],
        ),
        ("networks: [{lima: shared}, {lima: user}]", [{"lima": "shared"}, {"lima": "user"}]),
        ("mounts: none", "none"),
    ],
)
def test_entries_with_the_same_key_become_one(text, expected):
    """Later entries fill gaps of earlier ones and never overrule them; `*` fills all before it and is removed."""
    (value,) = merged(text).values()
    assert expected == value


def test_what_fills_several_entries_is_a_copy_in_each():
    """Changing one entry must not change another."""
    tree = compose("t", b"mounts: [{location: a}, {location: b}, {location: '*', 9p: {msize: 1}}]")
    combine(tree)
    first, second = (entry.value[1][1] for entry in tree.value[0][1].value)
    assert first is not second
