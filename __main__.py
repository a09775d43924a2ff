"""`python -m interlock` is the command line."""

from .cli import main

main()
