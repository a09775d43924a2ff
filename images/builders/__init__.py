"""Builders of Interlock's own images, from Debian's packages and the files in guests/.

`build` is the entry point. Builders know the store that they write to; other people's images do not belong here.
"""
