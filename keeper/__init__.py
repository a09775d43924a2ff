"""The keeper: one process for all instances of a home, which does what needs a look at running guests now and then.

It is optional: without one, a home lacks only what it does. The engine and the drivers know nothing of it.
"""
