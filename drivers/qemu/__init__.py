"""The driver that runs real machines under QEMU: `driver.py` does what the contract asks, one module for each concern.

Nothing here stays resident, and nothing here knows a state, a template or an image.
A module that only a start needs is imported where it is used: `list` observes a thousand machines, and starts none.
"""
