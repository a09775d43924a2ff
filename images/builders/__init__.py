"""Builders of Interlock's own images, from Debian's packages and the files in guests/.

`build` is the entrance. They know the store they write into; nothing of other people's images belongs here.
"""
