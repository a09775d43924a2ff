"""Fleets: the instances that a file asks for, those that exist, and the transitions that make them match.

`file` reads the file, `planning` compares it with the existing instances, `applying` carries a plan out. Nothing here
acts on a machine or decides which transition is legal: the API and the table do that.
"""
