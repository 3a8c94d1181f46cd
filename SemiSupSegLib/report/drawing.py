"""How figures look: inline SVG that takes its colours from the page, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each colour is a place holder: the page's style sheet has the real one, for light and for dark.
INK = "#010101"
MUTED = "#020202"
GRID = "#030303"
STUDENT = "#010204"
TEACHER = "#010205"
BEST = "#010206"
KEPT = "#010207"
AVERAGED = "#010208"
DOUBTED = "#010209"
PAPER = "#01020a"
STAGE = "#01020b"
STEPS = ("#010301", "#010302", "#010303", "#010304", "#010305", "#010306", "#010307", "#010308")
"""An ordered scale, for stages."""

_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    STUDENT: "--student",
    TEACHER: "--teacher",
    BEST: "--best",
    KEPT: "--kept",
    AVERAGED: "--averaged",
    DOUBTED: "--doubted",
    PAPER: "--paper",
    STAGE: "--stage",
    **{color: f"--step-{number}" for number, color in enumerate(STEPS, start=1)},
}
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.handlelength": 1.4,
    "legend.borderaxespad": 0.2,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "hatch.linewidth": 0.8,
    "svg.fonttype": "none",
}
WIDTH, HEIGHT = 4.2, 2.9
"""Inches; not much less than a phone, so that text stays legible there."""


@contextmanager
def drawing(height: float = HEIGHT, *, panels: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """Give a figure with `panels` axes, one below the other, in the report's style."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # A figure of its own, not pyplot's: no display, nothing global to close.
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
        yield figure, list(axes)


def count_along(axes: Axes, what: str) -> None:
    """Name what is counted along the x axis, with marks at whole numbers only."""
    axes.set_xlabel(what)
    axes.locator_params(axis="x", integer=True)


def legend_below(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """Name the lines below the drawing, where they hide nothing."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=min(columns, len(names)),
            columnspacing=1.2,
        )


def to_svg(figure: Figure, description: str) -> Markup:
    """Return a figure as an SVG element for a page, with a text for those who cannot see it."""
    import matplotlib as mpl

    stream = io.StringIO()
    name = re.sub(r"\W+", "-", description.lower())[:60]
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Names that repeat from figure to figure; nothing refers to them.
    text = re.sub(r' id="(?:[a-zA-Z0-9.]+_)+\d+"', "", text)
    text = re.sub(r"font: (\d+(?:\.\d+)?px) [^;\"]*", r"font-size: \1", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    size = re.search(r'viewBox="0 0 (\S+) (\S+)"', text)
    assert size is not None
    opening = (
        f'<svg role="img" aria-label="{escape(description)}" '
        f'viewBox="0 0 {size[1]} {size[2]}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return Markup(opening + text[text.index(">") + 1 :])
