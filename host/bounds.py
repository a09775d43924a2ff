"""Bounds on what guests and programs say: endless output fills neither memory nor the disk."""

HEAD_BYTES = 4 << 20
TAIL_BYTES = 64 << 10
"""How much of a program's output is kept. QEMU's description of itself takes half a megabyte and must be complete."""

WORDS = 20
WORD_LENGTH = 500
"""How many of a program's last lines an error carries, and how many characters of each."""


class Words:
    """Output that may never end: keeps the first `head` and the last `tail` bytes, and counts the rest."""

    def __init__(self, head: int = HEAD_BYTES, tail: int = TAIL_BYTES) -> None:
        self.left_out = 0
        self._sizes = head, tail
        self._head, self._tail = bytearray(), bytearray()

    def hear(self, piece: bytes) -> None:
        """Take the next piece of output."""
        head, tail = self._sizes
        room = head - len(self._head)
        self._head += piece[:room]
        self._tail += piece[room:]
        excess = max(0, len(self._tail) - tail)
        del self._tail[:excess]
        self.left_out += excess

    def __bool__(self) -> bool:
        return bool(self._head)

    def __bytes__(self) -> bytes:
        gap = b"\n[%d bytes left out]\n" % self.left_out if self.left_out else b""
        return bytes(self._head) + gap + bytes(self._tail)


def last_words(text: bytes) -> tuple[str, ...]:
    """Return the last lines of `text` that are not blank, each clipped."""
    lines = [line.rstrip() for line in text.decode(errors="replace").splitlines()]
    return tuple(clipped(line, WORD_LENGTH) for line in lines if line)[-WORDS:]


def clipped(text: str, length: int) -> str:
    """Return at most `length` characters of `text`; a mark shows where its end was cut off."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
