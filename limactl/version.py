"""The version of limactl that this one stands in for."""

LIMA_VERSION = "2.2.0"
"""The limactl whose calls are supported: embedders ask for the version, and refuse one that is too old for them."""


def version_line() -> str:
    """Return the line that `--version` prints."""
    return f"limactl version {LIMA_VERSION}\n"
