"""`python -m interlock.diagrams`: write every generated file into the checkout that this package is imported from."""

import sys
from pathlib import Path

from .generated import FILES

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Write the files, and name those that changed."""
    if not (ROOT / "pyproject.toml").exists():
        sys.exit("error: not a checkout: nothing is generated into an installed package")
    for name, content in FILES.items():
        path = ROOT / name
        fresh = content().encode()
        if not path.exists() or path.read_bytes() != fresh:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(fresh)
            sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
