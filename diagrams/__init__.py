"""The lifecycle as drawings: `render` and `layout` draw the table; all files here except the Python ones are generated.

`python -m interlock.diagrams` writes them, and the generated reference pages too. Do not edit any of them by hand.
"""
