"""Variables in texts: the supported part of Go's text/template means the same as in Go; the rest is refused."""

import pytest

from interlock.templates.variables import MAX_DEPTH, VariableError, names, replaced

VALUES = {"Home": "/home/anna", "Name": "web", "Param.on": "yes", "Param.off": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("no variables } }} {", "no variables } }} {"),
        ("{{.Home}}/x", "/home/anna/x"),
        ("{{ .Home }}{{.Name}}", "/home/annaweb"),
        ("{{.Param.on}}|{{.Param.off}}|", "yes||"),
        ("a {{- .Name -}} b", "awebb"),
        ("a\n\n  {{- .Name}} b", "aweb b"),
        ("a {{.Name -}}\n\n b", "a webb"),
        ("a {{/* a comment */}} b", "a  b"),
        ("a {{- /* a comment, {{.Nobody}} */ -}} b", "ab"),
        ("{{if .Param.on}}a{{end}}", "a"),
        ("{{if .Param.off}}a{{end}}", ""),
        ("{{if .Param.off}}a{{else}}b{{end}}", "b"),
        ("{{if .Param.off}}a{{else if .Param.on}}b{{else}}c{{end}}", "b"),
        ("{{if .Param.off}}a{{else if .Param.off}}b{{else}}c{{end}}", "c"),
        ("{{if .Param.on}}{{if .Param.off}}a{{else}}b{{end}}c{{end}}", "bc"),
        ("{{if not .Param.off}}a{{end}}", "a"),
        ("{{if not (and .Param.on .Param.off)}}a{{end}}", "a"),
        ("{{if or .Param.off .Param.on}}a{{end}}", "a"),
        ('{{if eq .Name "web"}}a{{end}}', "a"),
        ('{{if eq .Name "db" "web"}}a{{end}}', "a"),
        ('{{if ne .Name "web"}}a{{else}}b{{end}}', "b"),
        ("{{and .Param.on .Name}} {{and .Param.off .Name}}", "web "),
        ("{{or .Param.off .Name}}", "web"),
        ("{{not .Name}} {{eq .Name .Name}}", "false true"),
        ('{{"{{"}} {{`}}`}} {{"a\\n\\u0041"}}', "{{ }} a\nA"),
        ("{{(.Name)}}", "web"),
        ('{{eq (or .Param.off "web") .Name}}', "true"),
    ],
)
def test_text_becomes_what_go_makes_of_it(text, expected):
    """This includes variables, conditions, functions, quotes, comments and trimming dashes."""
    assert expected == replaced(text, VALUES)


@pytest.mark.parametrize(
    ("text", "offset", "words"),
    [
        ("a {{.Home", 2, "{{ without }}"),
        ('{{"a}}', 0, "{{ without }}"),
        ("{{}}", 2, "{{}} with nothing in it"),
        ("x {{.Nobody}}", 4, "no such variable here: .Nobody; there are: .Home, .Name, .Param.off, .Param.on"),
        ("{{.Param.onn}}", 2, "no such variable here: .Param.onn; did you mean .Param.on?"),
        ("{{if .Name}}", 12, "{{if}} without {{end}}"),
        ("{{end}}", 2, "{{end}} without {{if}}"),
        ("{{else}}", 2, "{{else}} without {{if}}"),
        ("{{if .Name}}{{else}}{{else}}{{end}}", 22, "{{else}} after {{else}}"),
        ("{{if .Name}}{{end .Name}}", 14, "{{end}} with '.Name'"),
        ("{{if .Name}}{{else .Name}}{{end}}", 14, "{{else}} with '.Name'"),
        ("{{if}}{{end}}", 4, "{{}} with nothing in it"),
        (
            "{{range .Name}}",
            2,
            "range is not supported; there are: if, not, and, or, eq, ne; {{`{{`}} stands for {{ itself",
        ),
        ("{{.Name | len}}", 8, "'|' is not understood here"),
        ("{{.Name .Home}}", 8, "'.Home' is not understood here"),
        ("{{$x}}", 2, "'$' is not understood here"),
        ("{{1}}", 2, "'1' is not understood here"),
        ("{{(.Name}}", 2, "( without )"),
        ("{{.Name)}}", 7, "')' is not understood here"),
        ("{{not}}", 2, "not takes 1 operands, found 0"),
        ("{{eq .Name}}", 2, "eq takes 2 or more operands, found 1"),
        ("{{not .Name .Home}}", 2, "not takes 1 operands, found 2"),
        ('{{"\\x"}}', 2, "'\"\\\\x\"' is not a text in quotes"),
        ("{{/* a */ .Name}}", 2, "'/' is not understood here"),
    ],
)
def test_text_that_is_not_understood_is_refused_at_its_place(text, offset, words):
    """Unsupported parts of Go's language are refused by name, never left in the text."""
    with pytest.raises(VariableError) as caught:
        replaced(text, VALUES)
    assert (offset, words) == (caught.value.offset, caught.value.words)


@pytest.mark.parametrize(
    "text", ["{{" + "(" * 5000 + "}}", "{{if .Name}}" * 5000, "{{if .Name}}" * 5000 + "{{end}}" * 5000]
)
def test_text_nested_too_deeply_is_refused(text):
    """A few KiB of text cannot exhaust the stack."""
    with pytest.raises(VariableError, match=f"more than {MAX_DEPTH}"):
        replaced(text, VALUES)


def test_names_are_those_of_all_branches():
    """Variables in branches that are not taken are included."""
    assert names('{{if eq .A "x"}}{{.B}}{{else if .C}}{{else}}{{not .D}}{{end}}') == [
        ("A", 8),
        ("B", 18),
        ("C", 32),
        ("D", 50),
    ]
