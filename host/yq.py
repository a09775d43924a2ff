"""Translate expressions from the language of yq to that of jq, which runs them.

Paths, assignments, comparisons, `and`, `or`, `select` and pipes are the same in both. Source: yq's manual; jq(1).
"""

import re

_TEXT_OR_KEY = re.compile(r'"(?:\\.|[^"\\])*"|\.(?P<key>\w+(?:-+\w+)+)')


def as_jq(expression: str) -> str:
    """Return `expression` for jq: keys with a dash, which jq reads as a subtraction, are put in quotes."""
    return _TEXT_OR_KEY.sub(lambda found: f'."{found["key"]}"' if found["key"] else found[0], expression)
