"""Line charts in a terminal, drawn with braille dots: two by four to a character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Curve", "draw"]

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_COLOURS = (36, 33, 35, 32, 34, 31)


class Curve(NamedTuple):
    """A named line through points (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]


def draw(title: str, curves: Sequence[Curve], *, width: int = 80, height: int = 12) -> str:
    """Return the chart as text: a title, rows with the range of y at the left, the range of x, a legend."""
    xs = [x for curve in curves for x, _ in curve.points]
    ys = [y for curve in curves for _, y in curve.points]
    (left, right), (low, high) = (min(xs), max(xs)), (min(ys), max(ys))
    margin = 10
    columns = max(10, width - margin - 1)
    cells = [[0] * columns for _ in range(height)]
    owner = [[0] * columns for _ in range(height)]
    for number, curve in enumerate(curves):
        for x, y in _joined(curve, columns * 2, left, right):
            column = round((x - left) / (right - left or 1) * (columns * 2 - 1))
            line = round((high - y) / (high - low or 1) * (height * 4 - 1))
            cells[line // 4][column // 2] |= _DOTS[column % 2][line % 4]
            owner[line // 4][column // 2] = number
    lines = [title]
    for index, row in enumerate(cells):
        label = f"{high:.4g}" if index == 0 else f"{low:.4g}" if index == height - 1 else ""
        painted = "".join(
            f"\x1b[{_COLOURS[owner[index][i] % len(_COLOURS)]}m{chr(0x2800 + dots)}\x1b[0m" if dots else " "
            for i, dots in enumerate(row)
        )
        lines.append(f"{label:>{margin - 1}} │{painted}")
    lines.append(" " * margin + f"└{left:,.0f}".ljust(columns - 8, "─") + f"{right:,.0f}".rjust(9, "─"))
    legend = (f"\x1b[{_COLOURS[i % len(_COLOURS)]}m━\x1b[0m {curve.name}" for i, curve in enumerate(curves))
    return "\n".join([*lines, " " * (margin + 1) + "  ".join(legend), ""])


def _joined(curve: Curve, columns: int, left: float, right: float) -> list[tuple[float, float]]:
    """Add points between neighbours, so that each column of dots on the way has one."""
    dots = list(curve.points[:1])
    for (x0, y0), (x1, y1) in zip(curve.points, curve.points[1:], strict=False):
        steps = max(1, round(abs(x1 - x0) / (right - left or 1) * columns))
        dots += [(x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps) for i in range(1, steps + 1)]
    return dots
