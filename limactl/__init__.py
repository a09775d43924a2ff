"""The drop-in: `limactl` as its embedders call it, done by Interlock.

Uses the API, and of the commands what prints; nothing imports it. Its doors are the program that `install-limactl`
writes and the command `interlock limactl`, found by its name. Knows no driver; a start reads no template.
"""
