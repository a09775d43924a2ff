"""Interlock on other machines: their addresses, the connection to one, and both ends of a call.

A command runs on the machine that has the instance, in the Interlock that is installed there, so lock, journal and disk
stay together. Nothing here reads or writes an instance or calls a driver.
"""
