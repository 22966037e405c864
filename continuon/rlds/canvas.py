"""A small canvas: rectangles, lines, pictures and letters on uint8 [height, width, 3].

Enough to draw a report page of an episode without a plotting package on the robot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["GLYPH_HEIGHT", "GLYPH_WIDTH", "Canvas", "Colour"]

Colour = tuple[int, int, int]
GLYPH_WIDTH, GLYPH_HEIGHT = 4, 6
"""Pixels that a letter takes at scale 1, the gap to the next one included."""

_FONT = (
    "A25755 B65656 C34443 D65556 E74647 F74644 G34553 H55755 I72227 J11152 K55655 "
    "L44447 M57755 N65555 O25552 P65644 Q25563 R65655 S34216 T72222 U55557 V55552 "
    "W55775 X55255 Y55222 Z71247 025552 126227 261247 371317 455711 574617 634757 "
    "771244 875757 975711 .00002 ,00024 :02020 -00700 _00007 /11244 (24442 )42224 "
    "+02720 =07070 %51245 *52725 <12421 >42124 [64446 ]31113 '22000 #57575 |22222"
)
"""Letters as five rows of three pixels, each row one octal digit, most left first."""


def _letters() -> dict[str, NDArray[np.bool_]]:
    found = {}
    for entry in _FONT.split():
        rows = [int(digit, 8) for digit in entry[1:]]
        bits = [[bool(row >> shift & 1) for shift in (2, 1, 0)] for row in rows]
        found[entry[0]] = np.array(bits, bool)
    return found


class Canvas:
    """Pixels that are drawn on; what lies outside is cut off."""

    def __init__(self, width: int, height: int, background: Colour) -> None:
        self.pixels = np.empty((height, width, 3), np.uint8)
        self.pixels[:] = background
        self._letters = _letters()

    @property
    def width(self) -> int:
        """Return the width in pixels."""
        return int(self.pixels.shape[1])

    def rectangle(
        self, left: int, top: int, width: int, height: int, colour: Colour
    ) -> None:
        """Fill a rectangle."""
        self._part(left, top, width, height)[:] = colour

    def picture(self, left: int, top: int, image: NDArray[np.uint8]) -> None:
        """Put an image, uint8 [height, width, 3]."""
        part = self._part(left, top, image.shape[1], image.shape[0])
        part[:] = image[: part.shape[0], : part.shape[1]]

    def text(
        self, left: int, top: int, text: str, colour: Colour, *, scale: int = 2
    ) -> None:
        """Write capital letters, digits and signs; another character is a gap."""
        for number, letter in enumerate(text.upper()):
            bits = self._letters.get(letter)
            if bits is None:
                continue
            large = np.kron(bits, np.ones((scale, scale), bool))
            at = left + number * GLYPH_WIDTH * scale
            part = self._part(at, top, large.shape[1], large.shape[0])
            part[large[: part.shape[0], : part.shape[1]]] = colour

    def curve(
        self,
        box: tuple[int, int, int, int],
        values: NDArray[np.float64],
        limits: tuple[float, float],
        colour: Colour,
    ) -> None:
        """Draw values over the width of a box (left, top, width, height).

        Each column of pixels shows the whole span of the values that fall on it; a NaN
        is a gap.
        """
        left, top, width, height = box
        low, high = limits
        scale = (height - 1) / (high - low) if high > low else 0.0
        rows = np.clip((high - values) * scale, 0, height - 1)
        edges = np.linspace(0, len(values), width + 1).astype(int)
        before: float | None = None
        for column in range(width):
            part = rows[edges[column] : max(edges[column + 1], edges[column] + 1)]
            part = part[np.isfinite(part)]
            if not part.size:
                before = None
                continue
            reach = part if before is None else np.append(part, before)
            first, last = int(reach.min()), int(reach.max())
            self.rectangle(left + column, top + first, 1, last - first + 1, colour)
            before = float(part[-1])

    def _part(self, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        rows = slice(max(top, 0), max(top + height, 0))
        return self.pixels[rows, max(left, 0) : max(left + width, 0)]
