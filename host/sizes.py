"""Sizes in bytes, as people write and read them. Units are powers of 1024 however they are spelled, as in QEMU."""

import re

PATTERN = r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*(?:([KMGTkmgt])[Ii]?[Bb]?|[Bb])?"
"""Group 1 is the number, group 2 the unit's letter."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size_bytes(value: object) -> int:
    """Return `value` in bytes: a number of bytes, or text such as `512MiB`, `4 GiB`, `1.5G`.

    Raises ValueError.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = re.fullmatch(PATTERN, value.strip()) if isinstance(value, str) else None
    if not found:
        raise ValueError("expected a size such as 512MiB or 4GiB")
    return int(float(found[1]) * 1024 ** ("BKMGT".index(found[2].upper()) if found[2] else 0))


def exact(number: int) -> str:
    """Return a number of bytes as `size_bytes` reads it back: `512MiB`, `4GiB`, `1000`."""
    power = next((power for power in (3, 2, 1) if number % 1024**power == 0), 0) if number else 0
    return f"{number // 1024**power}{_UNITS[power]}" if power else str(number)


def in_words(number: int) -> str:
    """Return a number of bytes as people read it: `512 MiB`, `1.5 GiB`."""
    amount, unit = _scaled(number)
    return f"{amount:.4g} {unit}"


def about(number: float) -> str:
    """Return a number of bytes, rounded, as people read what was measured or still changes: `9.7 MiB`, `512 B`."""
    amount, unit = _scaled(number)
    return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"


def _scaled(number: float) -> tuple[float, str]:
    amount, unit = float(number), "B"
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:  # noqa: PLR2004 - what the units are
            break
        amount /= 1024
    return amount, unit
