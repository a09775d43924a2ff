"""How common programs render the drawings: librsvg paints the SVG, PlantUML draws its diagrams.

Mermaid, XState and SCXML run in a browser, see `test_diagrams_in_browser.py`; Graphviz lays out the dot in
`test_render.py`, and Spin checks the Promela in `test_promela.py`.
"""

import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from interlock.diagrams.exports import plantuml
from interlock.diagrams.layout import edges
from interlock.diagrams.render import MARGIN, asides, svg
from interlock.fsm.states import State

SVG = "{http://www.w3.org/2000/svg}"
PAPER, INK, CURRENT_INK, GREY = (255, 255, 255), (0x1F, 0x23, 0x28), (0x05, 0x50, 0xAE), (0x57, 0x60, 0x6A)
COLOUR = {"trigger": INK, "state": INK, "legend": GREY}

Pixel = tuple[int, int, int]


class Picture:
    """An 8-bit RGBA picture. Source: PNG specification, sections 9.2 and 11.2."""

    def __init__(self, png: bytes) -> None:
        chunks = dict.fromkeys([b"IHDR", b"IDAT"], b"")
        at = 8
        while at < len(png):
            length, kind = struct.unpack(">I4s", png[at : at + 8])
            if kind in chunks:
                chunks[kind] += png[at + 8 : at + 8 + length]
            at += length + 12
        self.width, self.height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
        assert form == [8, 6, 0, 0, 0], "neither 8-bit RGBA nor plain"
        self._rows = list(self._unfiltered(zlib.decompress(chunks[b"IDAT"])))

    def pixels(self, left: float, top: float, right: float, bottom: float) -> Iterator[Pixel]:
        """Yield the pixels of a rectangle, given in the drawing's own units."""
        for row in self._rows[round(top) : round(bottom)]:
            for at in range(max(0, round(left)), min(self.width, round(right))):
                red, green, blue, _ = row[4 * at : 4 * at + 4]
                yield red, green, blue

    def _unfiltered(self, data: bytes) -> Iterator[bytes]:
        stride = 4 * self.width
        above = bytearray(stride)
        for begin in range(0, len(data), stride + 1):
            method, line = data[begin], bytearray(data[begin + 1 : begin + 1 + stride])
            if method == 2 and not any(line):  # the row equals the one above, as most do: this saves the time
                line = above
            else:
                predict = PREDICTORS[method]
                for at in range(stride):
                    left, corner = (line[at - 4], above[at - 4]) if at >= 4 else (0, 0)
                    line[at] = (line[at] + predict(left, above[at], corner)) & 0xFF
            yield bytes(line)
            above = line


def paeth(left: int, above: int, corner: int) -> int:
    """Return which of the three is nearest to left + above - corner."""
    off_left, off_above, off_corner = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
    if off_left <= off_above and off_left <= off_corner:
        return left
    return above if off_above <= off_corner else corner


PREDICTORS = (
    lambda _left, _above, _corner: 0,
    lambda left, _above, _corner: left,
    lambda _left, above, _corner: above,
    lambda left, above, _corner: (left + above) // 2,
    paeth,
)


def is_near(pixel: Pixel, colour: Pixel) -> bool:
    """Return whether `pixel` is close to this colour: the edges of letters are blurred."""
    return sum(abs(one - other) for one, other in zip(pixel, colour, strict=True)) < 60


@pytest.fixture
def painted(tmp_path: Path):
    """Return a function that paints a drawing as a browser would, in its light colours."""

    def paint(drawing: str) -> Picture:
        (tmp_path / "in.svg").write_text(drawing)
        command = ["rsvg-convert", "--output", tmp_path / "out.png", tmp_path / "in.svg"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return Picture((tmp_path / "out.png").read_bytes())

    return paint


@pytest.mark.skipif(shutil.which("rsvg-convert") is None, reason="librsvg2-bin is not installed")
@pytest.mark.parametrize("current", [None, State.running])
def test_svg_is_painted_with_every_word_legible(painted, current):
    """Each text shows in its colour within its own line, and no text extends beyond the space reserved for it."""
    drawing = svg(current)
    picture, root = painted(drawing), ET.fromstring(drawing)  # noqa: S314 - our own
    assert (picture.width, picture.height) == tuple(float(root.get(side)) for side in ("width", "height"))

    texts = list(root.iter(f"{SVG}text"))
    written = 0
    for text in texts:
        x, y = float(text.get("x")), float(text.get("y"))
        half = 4.7 * len(text.text)
        left, right = (x, x + 2 * half) if text.get("class") == "legend" else (x - half, x + half)
        wanted = CURRENT_INK if text.text == current else COLOUR[text.get("class")]
        seen = sum(is_near(pixel, wanted) for pixel in picture.pixels(left, y - 10, right, y + 10))
        assert seen > 2 * len(text.text), f"{text.text} cannot be read"
        written += seen if wanted == INK else 0
    assert written == sum(is_near(pixel, INK) for pixel in picture.pixels(0, 0, picture.width, picture.height))


@pytest.mark.skipif(shutil.which("rsvg-convert") is None, reason="librsvg2-bin is not installed")
def test_svg_is_not_cut_off_at_its_edges(painted):
    """The drawing has a margin of paper on all sides."""
    picture = painted(svg())
    width, height, edge = picture.width, picture.height, MARGIN / 2
    inner = set(picture.pixels(edge, edge, width - edge, height - edge))
    for margin in ((edge, 1, width - edge, edge), (edge, height - edge, width - edge, height - 1)):
        assert set(picture.pixels(*margin)) == {PAPER}
    for margin in ((1, edge, edge, height - edge), (width - edge, edge, width - 1, height - edge)):
        assert set(picture.pixels(*margin)) == {PAPER}
    assert len(inner) > 10


@pytest.mark.slow  # two seconds of Java
@pytest.mark.skipif(shutil.which("plantuml") is None, reason="plantuml is not installed")
def test_plantuml_draws_every_word_once_and_apart(tmp_path):
    """PlantUML accepts the diagram of every state and writes each name, label and note without overlap."""
    for current in (None, *State):
        (tmp_path / f"{current}.puml").write_text(plantuml(current))
    command = ["plantuml", "-tsvg", *sorted(tmp_path.glob("*.puml"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

    expected = sorted([*State, *(edge.label for edge in edges()), *asides()])
    for current in (None, *State):
        root = ET.parse(tmp_path / f"{current}.svg").getroot()  # noqa: S314 - PlantUML's, of our own text
        texts = list(root.iter(f"{SVG}text"))
        assert sorted(text.text.replace("\N{NO-BREAK SPACE}", " ") for text in texts) == expected
        assert [(one.text, other.text) for one, other in combinations(texts, 2) if is_over(one, other)] == []
        filled = [shape for shape in root.iter() if "#DDF4FF" in {shape.get("fill"), shape.get("fill", "").upper()}]
        assert len(filled) == (0 if current is None else 1)


def is_over(one, other) -> bool:
    """Return whether two texts of an SVG share some of their area."""
    (left, top, right, bottom), (left2, top2, right2, bottom2) = map(area, (one, other))
    return left < right2 and left2 < right and top < bottom2 and top2 < bottom


def area(text) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a text whose length the SVG states."""
    x, y = float(text.get("x")), float(text.get("y"))
    return x, y - 0.7 * float(text.get("font-size")), x + float(text.get("textLength")), y
