"""Interlock on other machines: their addresses, the connection to one, and both ends of a call.

A command runs on the machine that has the instance, by the Interlock that is installed there: lock, journal and disk
stay together. Nothing here reads or writes an instance, and no driver is called.
"""
