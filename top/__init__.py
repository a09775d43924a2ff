"""The live view: what `interlock top` shows, and the keys that it takes.

Uses the API, and of the commands what prints; nothing imports it: the command is found by its name. The one package
that imports textual, which is an extra. Knows no driver and no state: what can be asked for is the table's to say.
"""
