"""Loading a template: its own text, changes by --set, defaults, and the replacement of variables."""

import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from interlock.errors import InvalidTemplateError, NotFoundError
from interlock.templates.expand import Guest, Host
from interlock.templates.load import Source, builtin_names, dump, expand, find, load, parse, summary

GOOD = "images:\n- location: build:tiny\n  arch: x86_64\n"
HOST = Host(name="web", dir="/data/web", home="/home/anna", uid=1000, user="anna")
GUEST = Guest(name="web", hostname="web", uid=1000, user="anna", home="/home/anna")
IMAGES = sorted(path.stem for path in (Path(__file__).parents[2] / "templates" / "builtin" / "_images").iterdir())
BOUNDED = settings(max_examples=150, deadline=None, derandomize=bool(os.environ.get("CI")))


def loaded(text, *edits):
    """Return the template made of an image and `text`, changed by `edits`."""
    return parse(Source("t", (GOOD + text).encode()), edits=edits)


def mistakes(text, *edits):
    """Return the details of the error for the template made of an image and `text`."""
    with pytest.raises(InvalidTemplateError) as caught:
        loaded(text, *edits)
    return list(caught.value.details) or [caught.value.message]


@pytest.mark.parametrize("name", builtin_names())
def test_builtin_template_is_valid_and_summed_up(name):
    """Each built-in template is usable as it is, has an image for x86_64, and has a summary."""
    template = load(name)
    assert (template.notes, template.name) == ((), f"template:{name}")
    assert {image.arch for image in template.template.images} >= {"x86_64"}
    assert expand(template, HOST, GUEST).message.count("{{") == 0
    assert summary(find(name))


@pytest.mark.parametrize("name", IMAGES)
def test_builtin_images_are_a_base_for_any_template(name):
    """Each list of images can be used as a base; images with a date in their URL have a digest."""
    template = parse(Source("t", f"base: template:_images/{name}\n".encode())).template
    assert {image.arch for image in template.images} >= {"x86_64"}
    assert [
        image.location for image in template.images if re.search(r"20\d{6}", image.location) and not image.digest
    ] == []


@pytest.mark.parametrize("name", ["debian-trixie", "my_own-2"])
def test_image_of_the_store_is_named_as_the_store_allows(name):
    """For example, `image build debian --suite trixie` makes debian-trixie."""
    location = f"build:{name}"
    assert parse(Source("t", f"images:\n- location: {location}\n".encode())).template.images[0].location == location


def test_load_of_many_mistakes_tells_all_in_the_order_of_the_text():
    """All mistakes are reported at once, those of edits after those of the text."""
    said = mistakes("cpus: many\ndisk: -1\nzzz: 1\n", "memory=lots")
    assert [detail.split(": ")[0] for detail in said] == ["t:4:7", "t:5:7", "t:6:1", "--set memory=lots"]


def test_load_of_defaults_fills_what_template_bases_and_edits_leave_open(tmp_path):
    """The defaults act as the last base: they overrule nothing, and their `*` applies to every mount before them."""
    (tmp_path / "defaults.yaml").write_text(
        "base: more.yaml\ncpus: 8\nmemory: 8GiB\ndisk: 80GiB\nmounts: [{location: '*', writable: true}]\n"
    )
    (tmp_path / "more.yaml").write_text("timezone: Europe/Berlin\n")
    source = Source("t", (GOOD + "memory: 1GiB\nmounts: [{location: /srv}]\n").encode())
    template = parse(source, edits=("cpus=2",), defaults=tmp_path / "defaults.yaml").template
    assert (template.cpus, template.memory, template.disk) == (2, 1 << 30, 80 << 30)
    assert [(mount.location, mount.writable) for mount in template.mounts] == [("/srv", True)]
    assert template.timezone == "Europe/Berlin"


def test_load_of_defaults_with_a_base_of_the_templates_reads_it_for_both(tmp_path):
    """A base is read only once within a template or within the defaults, but may be named by both."""
    (tmp_path / "defaults.yaml").write_text("base: template:_default/mounts\n")
    source = Source("t", (GOOD + "base: template:_default/mounts\n").encode())
    template = parse(source, defaults=tmp_path / "defaults.yaml").template
    assert [mount.location for mount in template.mounts] == ["~"]


def test_load_of_defaults_that_are_empty_changes_nothing(tmp_path):
    """A defaults file with only comments is valid."""
    (tmp_path / "defaults.yaml").write_text("# cpus: 4\n")
    source = Source("t", GOOD.encode())
    assert parse(source, defaults=tmp_path / "defaults.yaml").template == parse(source).template


def test_load_of_defaults_that_are_missing_names_the_file(tmp_path):
    """A defaults file that was named must exist."""
    with pytest.raises(NotFoundError, match=r"there is no file .*defaults\.yaml"):
        load("tiny", defaults=tmp_path / "defaults.yaml")


def test_load_of_defaults_with_a_mistake_tells_its_place(tmp_path):
    """The error names the defaults file, not the template."""
    (tmp_path / "defaults.yaml").write_text("cpus: many\n")
    with pytest.raises(InvalidTemplateError) as caught:
        load("tiny", defaults=tmp_path / "defaults.yaml", edits=("cpus=null",))
    assert caught.value.details == (f"{tmp_path}/defaults.yaml:1:7: cpus: expected a whole number, found 'many'",)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("mounts: [{location: '{{.Param.p}}'}]\nparam: {p: srv}\n", "t:4:21: mounts[0].location: expected an absolute"),
        ("user: {home: '{{.Name}}'}\n", "t:4:14: user.home: expected an absolute path, found 'web'"),
        (
            "mounts: [{location: /srv, mountPoint: '/{{.Param.p}}'}]\nparam: {p: etc}\n",
            "t:4:39: mounts[0].mountPoint: expected a folder that the guest's own system does not need, found '/etc'",
        ),
        (
            "provision: [{mode: data, path: '{{if .Param.p}}/x{{end}}', content: x}]\nparam: {p: ''}\n",
            "t:4:32: provision[0].path: expected an absolute path, found ''",
        ),
        (
            "mounts: [{location: '~'}]\n",
            "t:4:10: mounts[0].mountPoint: expected a folder other than the guest's home, /home/anna",
        ),
        (
            "user: {home: /home/u}\nmounts: [{location: /srv, mountPoint: /home/u/}]\n",
            "t:5:39: mounts[0].mountPoint: expected a folder other than the guest's home, /home/u",
        ),
        ("mounts: [{location: ~nobody-of-this-name/x}]\n", "t:4:21: mounts[0].location: unknown user in `~user`"),
        (
            "portForwards: [{guestPort: 1, hostSocket: '{{.Dir}}/x'}]\n",
            "t:4:43: portForwards[0].hostSocket: expected at",
        ),
    ],
)
def test_expand_into_what_is_no_value_is_a_mistake_with_its_place(text, place):
    """The text with its variables replaced is checked as if it had been written that way."""
    template = loaded(text)
    with pytest.raises(InvalidTemplateError) as caught:
        expand(template, replace(HOST, dir="/" + "d" * 200), GUEST)
    assert caught.value.details[0].startswith(place)


def test_expand_leaves_the_template_as_it_was():
    """One template can be expanded for many machines."""
    template = loaded("message: '{{.Name}}'\n")
    before = dump(template)
    names = [expand(template, replace(HOST, name=name), GUEST).message for name in ("a", "b")]
    assert (names, template.template.message, dump(template)) == (["a", "b"], "{{.Name}}", before)


def test_expand_does_not_replace_what_a_param_holds():
    """A param's value that looks like a variable is not replaced."""
    template = loaded("message: '{{.Param.p}}'\nparam: {p: '{{.Name}}'}\n")
    assert expand(template, HOST, GUEST).message == "{{.Name}}"


def test_template_tells_boot_and_processor_by_architecture():
    """Only x86_64 has a BIOS, and vmOpts.qemu.cpuType overrules the older cpuType."""
    template = loaded(
        "firmware: {legacyBIOS: true}\ncpuType: {x86_64: a, aarch64: b}\nvmOpts: {qemu: {cpuType: {x86_64: c}}}\n"
    )
    ways = [template.template.boot_way(arch) for arch in ("x86_64", "aarch64")]
    models = [template.template.cpu_model(arch) for arch in ("x86_64", "aarch64", "riscv64")]
    assert (ways, models) == (["bios", None], ["c", "b", ""])


def test_template_tells_the_ports_of_a_forward():
    """A forward has one port, a range or all ports; host ports are the same unless others are given."""
    text = "portForwards: [{guestPort: 80}, {guestPort: 80, hostPort: 81}, {guestPortRange: [5, 9]}, {ignore: true}]\n"
    forwards = loaded(text).template.port_forwards
    assert [forward.guest_ports for forward in forwards] == [(80, 80), (80, 80), (5, 9), (1, 65535)]
    assert [forward.host_ports for forward in forwards] == [(80, 80), (81, 81), (5, 9), (1, 65535)]


ANY_TEXT = st.text(st.characters(), max_size=30)
KEYS = st.sampled_from(
    ["cpus", "memory", "mounts[0].writable", "param.X", ".user.name", "mounts", "message", "env.X", "base", "images[0]"]
)


@BOUNDED
@example("mounts[0]", "*a")
@example("x" * 10_000, "[" * 10_000)
@example("message", "{{")
@given(
    st.one_of(KEYS, ANY_TEXT, st.text('abc.[]0"=', max_size=12)),
    st.one_of(ANY_TEXT, st.text("[]{}:&*!|> \"'\n1a", max_size=12)),
)
def test_set_of_anything_is_a_value_or_an_invalid_template(key, value):
    """Any --set either gives a template or raises InvalidTemplateError."""
    with suppress(InvalidTemplateError):
        assert loaded("", f"{key}={value}").template.images


@BOUNDED
@example("{{if .Param.p}}{{else}}")
@example("{{" * 1000)
@example("{{(" * 1000)
@given(st.text('{}-. \n"`()|ifelsndaotqrNmPp/*', max_size=40))
def test_text_with_any_variables_is_replaced_or_an_invalid_template(text):
    """A text that passed the checks expands without an error, unless its expansion is invalid."""
    source = Source("t", f"{GOOD}param: {{p: v}}\nmessage: 'x'\nprovision: [{{script: 'x $PARAM_p'}}]\n".encode())
    with suppress(InvalidTemplateError):
        template = parse(source, edits=("message=" + _quoted(text),))
        assert isinstance(expand(template, HOST, GUEST).message, str)


def _quoted(text):
    return "'" + text.replace("'", "''") + "'"
