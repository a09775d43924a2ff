"""The keeper: one process for all instances of a home, for what needs somebody to look at running guests.

It is optional: a home without one lacks what it does, and nothing else. The engine and the drivers do not know it.
"""
