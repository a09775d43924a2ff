"""The driver `ganeti`: machines that a Ganeti cluster runs, asked for over its REST API (RAPI).

Nothing outside this folder knows what Ganeti is. A second driver for clusters would be a folder beside this one.
"""
