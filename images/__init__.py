"""The image store, and what fills it: builders of Interlock's own images, and downloads of other people's.

`bring` is the entrance for whoever creates an instance; `usage` tells and removes what nobody needs.
Used by creation alone: `start` never loads this folder, and an instance holds its own links to what it was made of.
Knows guests (what a seed means to them) and errors; knows no driver and no template, and of instances only where lie
the files that they share with the store.
"""
