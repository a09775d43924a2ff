"""Where a template, an image and this host become a spec and the files beside it: used by `create` alone.

A spec names no template, no image and no cache, so nothing of this folder runs once an instance exists.
"""
