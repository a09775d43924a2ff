"""The lifecycle engine: states, the one table, and what makes a transition durable.

Knows no driver, no template and no terminal; imports nothing of Interlock but host/ and the errors.
"""
