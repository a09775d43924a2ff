"""The commands, one module for each kind; `index.COMMANDS` says which is where.

A command parses, calls the API and prints. It decides nothing about states and composes no message about a transition.
"""
