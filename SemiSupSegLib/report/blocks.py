"""What a page is made of: sections of figures, tables, pictures and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from SemiSupSegLib.counting import counted


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing with its caption."""

    svg: Markup
    title: str
    caption: str
    kind: str = "figure"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text; the first column names the row."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    strong_rows: tuple[int, ...] = ()
    """Indices of rows that sum up the others."""
    half: bool = False
    """Whether it is so narrow that something can stand beside it."""
    kind: str = "table"


@dataclass(frozen=True, kw_only=True)
class Note:
    """A sentence, for instance on what is missing."""

    text: str
    kind: str = "note"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One small picture."""

    uri: str
    """`data:image/png;base64,…`"""
    title: str
    width_mm: float
    height_mm: float


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures of one case, or of several, side by side."""

    title: str
    tiles: tuple[Tile, ...]
    caption: str = ""
    columns: int = 5
    kind: str = "gallery"


@dataclass(frozen=True, kw_only=True)
class Swatch:
    """A colour and what it stands for."""

    name: str
    color: str
    """CSS colour."""


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A colour scale from 0 to 1."""

    name: str
    colors: tuple[str, ...]
    """CSS colours at even steps."""
    low: str
    high: str


@dataclass(frozen=True, kw_only=True)
class Legend:
    """What the colours of pictures mean."""

    groups: tuple[tuple[str, tuple[Swatch, ...]], ...] = ()
    ramps: tuple[Ramp, ...] = ()
    kind: str = "legend"


Block = Figure | Table | Note | Gallery | Legend


@dataclass(frozen=True, kw_only=True)
class Section:
    """A chapter of the page."""

    id: str
    title: str
    intro: str = ""
    blocks: Sequence[Block] = field(default_factory=tuple)


NOTHING = "\u2013"
"""In a table, where there is no value."""
MINUS = "\u2212"


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """Return a number for a table; a dash if there is none. A true minus, never -0."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.replace("-", "±" if sign else "").replace("+", "±")
    return text.replace("-", MINUS)


def percent(value: float | None, digits: int = 0) -> str:
    """Return a share, 0-1, in percent."""
    return NOTHING if value is None else f"{number(100 * value, digits)} %"


def duration(seconds: float | None) -> str:
    """Return a time in words a person would use."""
    if seconds is None:
        return NOTHING
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def count_of(amount: int, things: str) -> str:
    """Return `1 case`, `1 200 cases`: as `counted`, with the thin space of the page's numbers."""
    return counted(amount, things).replace(",", "\u202f")
