"""The lifecycle engine: states, the one table, and what makes a transition durable.

It knows no driver, no template and no terminal, and imports nothing of Interlock except host/ and the errors.
"""
