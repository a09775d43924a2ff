"""The lifecycle, drawn: `render` and `layout` draw the table; every file here but the Python ones is generated from it.

`python -m interlock.diagrams` writes them, and the reference pages that are generated too. Edit none of them by hand.
"""
