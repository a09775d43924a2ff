"""The driver that runs real machines under QEMU: `driver.py` does what the contract asks, one module for each concern.

Nothing here stays resident, and nothing here knows a state, a template or an image. Modules that only a start needs are
imported where they are used, because `list` observes a thousand machines and starts none of them.
"""
