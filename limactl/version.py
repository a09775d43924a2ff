"""Which limactl this one stands in for."""

LIMA_VERSION = "2.2.0"
"""The limactl whose calls are answered: embedders ask for it, and refuse what is older than they need."""


def version_line() -> str:
    """Return what `--version` prints."""
    return f"limactl version {LIMA_VERSION}\n"
