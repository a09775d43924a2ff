"""Where a template, an image and this host become a spec and the files beside it: used by `create`, and by `edit`.

A spec names no template, no image and no cache, so nothing of this folder runs for an instance that exists, except when
its spec is edited: the text for that has some keys of a template, and is read as one.
"""
