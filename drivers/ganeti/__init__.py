"""The driver `ganeti`: machines that a Ganeti cluster runs, controlled through its REST API (RAPI).

Nothing outside this folder depends on Ganeti. A second driver for clusters would be a folder beside this one.
"""
