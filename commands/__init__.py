"""The commands, one module for each kind; `index.COMMANDS` lists the module of each command.

A command parses, calls the API and prints. It makes no decision about states and composes no message about transitions.
"""
