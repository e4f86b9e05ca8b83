"""Columns as inline SVG, small enough for a phone, with everything said in text as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

WIDTH, HEIGHT = 360, 150  # of a phone's column; a wider page scales it up
_LEFT, _RIGHT, _BOTTOM, _TOP = 34, 14, 20, 10


@dataclass(frozen=True)
class Column:
    """One column of a plot.

    Attributes:
        label: below the column; not every one is drawn where they are many.
        value: its height; None where nothing was measured.
        says: what a pointer that rests on it is told.
        usual: height of the mark of what is usual, if there is one.
        is_own: whether it is the run of the page.
    """

    label: str
    value: float | None
    says: str
    usual: float | None = None
    is_own: bool = True


def draw_columns(columns: Sequence[Column], *, title: str, unit: str) -> Markup:
    """Return the plot; a screen reader hears the title, the table beside it tells the rest."""
    top = round_up(max([0.0, *(v for c in columns for v in (c.value, c.usual) if v is not None)]))
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(columns))
    name = escape(title, quote=True)
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">',
        *_axis(top, unit),
        *(_column(c, _LEFT + i * step, step, top) for i, c in enumerate(columns)),
        *_labels(columns, step),
        "</svg>",
    ]
    return Markup("".join(parts))  # noqa: S704  # every text in it was escaped above


def round_up(value: float) -> float:
    """Return the next number that reads well at the top of an axis: 1, 2, 4, 5, 6 or 8 times 10^n.

    Halves of these read well, too.
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 6, 8, 10) if step * power >= value)


def _axis(top: float, unit: str) -> list[str]:
    lines = []
    for share in (0.0, 0.5, 1.0):
        y = _height_at(share * top, top)
        lines.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        lines.append(
            f'<text x="{_LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{share * top:.3g}</text>'
        )
    return [*lines, f'<text x="{_LEFT}" y="{_TOP - 2}">{escape(unit)}</text>']


def _column(column: Column, x: float, step: float, top: float) -> str:
    width = max(1.0, min(step * 0.7, 28.0))
    left = x + (step - width) / 2
    drawn = ""
    if column.value:
        y = _height_at(column.value, top)
        kind = "own" if column.is_own else "other"
        drawn += (
            f'<rect class="{kind}" x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{max(0.5, HEIGHT - _BOTTOM - y):.1f}"/>'
        )
    if column.usual:
        y = _height_at(column.usual, top)
        drawn += (
            f'<line class="usual" x1="{left - 1:.1f}" x2="{left + width + 1:.1f}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    return f"<g><title>{escape(column.says)}</title>{drawn}</g>"


def _labels(columns: Sequence[Column], step: float) -> list[str]:
    """As many labels as fit, the last one always."""
    longest = max((len(column.label) for column in columns), default=1)
    every = max(1, round(longest * 5.5 / step + 0.5))
    last = len(columns) - 1
    return [
        f'<text x="{_LEFT + (i + 0.5) * step:.1f}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(column.label)}</text>"
        for i, column in enumerate(columns)
        if (last - i) % every == 0
    ]


def _height_at(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP - 4) * value / top
