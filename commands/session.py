"""What every command is given: the API, and the way to stderr."""

from typing import TYPE_CHECKING

from ..errors import InterlockError

if TYPE_CHECKING:
    from ..api import Interlock
    from .stderr import LogFormat


class Session:
    """What commands are given: the API, which announces to the terminal or the log."""

    def __init__(self) -> None:
        self.log_format: LogFormat | None = None
        self.debug = False

    @property
    def interlock(self) -> "Interlock":
        from ..api import Interlock
        from .stderr import announcer

        return Interlock(announce=announcer(self.log_format))

    def report(self, text: str) -> None:
        """Say on stderr what work outside a transition has come to: an image being built."""
        from .stderr import print_note

        print_note(text, self.log_format)

    def complain(self, error: InterlockError) -> None:
        """Say on stderr what was wrong, where the command goes on all the same."""
        from .stderr import print_error

        print_error(error, self.log_format)
