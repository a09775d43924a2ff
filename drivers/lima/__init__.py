"""The driver `lima`: machines that an installed `limactl` keeps in a home of its own, run through that program.

Nothing here reads a template: `create` hands the text in the site to limactl.
"""
