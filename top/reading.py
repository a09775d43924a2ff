"""Textual's own terminal driver, with a key reader that ends with the program."""

import threading

from textual.drivers.linux_driver import LinuxDriver

_LOOK_S = 0.1


class Terminal(LinuxDriver):
    """A terminal that may be closed at any moment.

    If the view cannot leave a terminal that is gone, textual's thread keeps reading: the program would never end, and
    would keep a processor busy. So the reader is a daemon thread, which ends with the main thread.
    """

    def run_input_thread(self) -> None:
        """Read keys until textual ends the reading, or the program ends."""
        reader = threading.Thread(target=super().run_input_thread, name="keys", daemon=True)
        reader.start()
        while reader.is_alive() and threading.main_thread().is_alive():
            reader.join(_LOOK_S)
