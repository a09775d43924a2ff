"""The image store, and what fills it: other people's images, and the builders of our own.

`obtain` makes an image available to a creation; `usage` says which instances use which image, and removes what no
instance needs. `start` never loads this folder, and an instance holds its own links to the files it was made of.
Nothing here knows a driver or a template; of instances it knows only the files that they share with the store.
"""
