"""Fleets: what the instances of a file should be, what they are, and the rows that make the one of the other.

`file` reads the file, `planning` compares it with what is there and does nothing, `applying` carries a plan out.
Nothing here acts on a machine or knows which transition is legal: that is asked of the API and of the table.
"""
