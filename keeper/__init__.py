"""The keeper: one process for all instances of a home, for work that needs a look at running guests now and then.

It is optional: without it, only that work is not done. The engine and the drivers do not depend on it.
"""
