"""What guests and programs say, bounded: output without end fills neither memory nor the disk."""

HEAD_BYTES = 4 << 20
TAIL_BYTES = 64 << 10
"""How much is kept of what a program says: QEMU's description of itself has half a megabyte and must be complete."""

WORDS = 20
WORD_LENGTH = 500
"""How many lines of somebody's last words an error carries, and how many characters of each."""


class Words:
    """What is said by somebody who may never stop: the first `head` bytes and the last `tail`; the rest is counted."""

    def __init__(self, head: int = HEAD_BYTES, tail: int = TAIL_BYTES) -> None:
        self.left_out = 0
        self._sizes = head, tail
        self._head, self._tail = bytearray(), bytearray()

    def hear(self, piece: bytes) -> None:
        """Take what was said next."""
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
    """Return the last lines of `text` that say something, each of bearable length."""
    lines = [line.rstrip() for line in text.decode(errors="replace").splitlines()]
    return tuple(clipped(line, WORD_LENGTH) for line in lines if line)[-WORDS:]


def clipped(text: str, length: int) -> str:
    """Return `text`, at most `length` characters of it: what is cut off at its end is marked."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
