"""The lifecycle, drawn: every file here but the Python ones is generated from fsm/table.py, never edited by hand.

`python -m interlock.diagrams` writes them, and the reference pages that are generated too. Nothing imports this folder.
"""
