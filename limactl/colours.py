"""Colours for JSON and YAML on a terminal: one for keys, one for texts, one for other values."""

import re

_KEY, _TEXT, _WORD = 36, 32, 35
"""SGR parameters. Source: ECMA-48."""

_JSON = re.compile(r"""(?P<key>"(?:[^"\\]|\\.)*")(?=:)|(?P<text>"(?:[^"\\]|\\.)*")|(?P<word>[\w.+-]+)""")
_YAML = re.compile(
    r"""(?m:^)(?P<mark>---|(?:\ |-\ )+)|(?P<key>[^\s:'"#][^\n:]*)(?=:(?:\s|$))"""
    r"""|(?P<word>-?\d[\d.eE+-]*|true|false|null|\[\]|\{\})(?m:$)|(?P<text>[^\s:][^\n]*)""",
    re.VERBOSE,
)
_COLOURS = {"key": _KEY, "text": _TEXT, "word": _WORD, "mark": 0}


def painted(text: str, form: str) -> str:
    """Return `text`, as Python's `json` or PyYAML writes it, with colours; `form` is `json` or `yaml`."""

    def coloured(found: re.Match[str]) -> str:
        colour = _COLOURS[str(found.lastgroup)]
        return f"\x1b[{colour}m{found[0]}\x1b[0m" if colour else found[0]

    return (_YAML if form == "yaml" else _JSON).sub(coloured, text)
