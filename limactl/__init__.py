"""The drop-in: a `limactl` for programs that call limactl, implemented by Interlock.

Uses the API and the printing code of the commands; no other package imports it. It is entered through the program that
`install-limactl` writes and the command `interlock limactl`, which is found by its name. It contains no code for a
particular driver; a start reads no template.
"""
