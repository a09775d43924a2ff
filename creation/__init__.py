"""Turns a template, an image and this host's facts into a spec and the files beside it, for `create` and `edit`.

A spec names no template, no image and no cache, so nothing in this folder runs for an existing instance, except to edit
its spec: the text that is edited has some keys of a template, and is read like one.
"""
