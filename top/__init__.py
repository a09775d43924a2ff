"""The live view: what `interlock top` shows, and the keys that it takes.

It uses the API and the printing code of the commands; nothing imports it, because the command is found by its name. It
is the only package that imports textual, which is an extra. It contains no code for a particular driver or state: the
table says what is legal.
"""
