"""Paint the module's icon: a brain from above, a region that is sure, a rim that is in doubt.

.venv/bin/python docs/make_icon.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon
from numpy.typing import NDArray

ICON = Path(__file__).resolve().parents[1] / "SemiSupSeg/Resources/Icons/SemiSupSeg.png"
SIZE = 128
"""Width and height in pixels, which the Extensions Index asks for."""

BRAIN, FURROW, SURE, DOUBT = "#3a86c0", "#235f90", "#ffc14d", "#ffffff"
"""The brain is of medium lightness and surrounds the light ones: seen on white as on black."""
CENTRE = (0.17, -0.06)
"""Of the region, in units of half the icon."""


def main() -> None:
    """Write SemiSupSeg/Resources/Icons/SemiSupSeg.png."""
    figure = Figure(figsize=(1, 1), dpi=SIZE)
    figure.patch.set_alpha(0)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-1, 1), ylim=(-1, 1))
    axes.set_axis_off()
    axes.add_patch(Polygon(brain(), color=BRAIN, linewidth=0))
    for line in (midline(), furrow(0.30, 0.66), furrow(-0.24, 0.16), furrow(-0.68, -0.38)):
        axes.plot(*line, color=FURROW, linewidth=3.4, solid_capstyle="round", zorder=1.5)
    # Covers the furrows, so that the rim stands on one colour.
    axes.add_patch(Circle(CENTRE, 0.6, color=BRAIN, linewidth=0, zorder=2))
    axes.add_patch(Circle(CENTRE, 0.32, color=SURE, linewidth=0, zorder=3))
    for angle in np.arange(8) * np.pi / 4 + np.pi / 8:
        arc = angle + np.linspace(-0.17, 0.17, 9)
        axes.plot(*circle(arc, 0.5), color=DOUBT, linewidth=6, solid_capstyle="butt", zorder=3)
    FigureCanvasAgg(figure).print_png(ICON, metadata={"Software": None})


def brain() -> NDArray[np.float64]:
    """Return the outline seen from above, shape (points, 2): an egg, notched front and back."""
    angle = np.linspace(0, 2 * np.pi, 361)
    notch = 0.14 * np.exp(-(((np.abs(np.sin(angle)) - 1) / 0.012) ** 2))
    width = 0.86 - 0.05 * np.sin(angle)
    return np.stack([(width - notch) * np.cos(angle), (0.98 - notch) * np.sin(angle)], axis=1)


def midline() -> NDArray[np.float64]:
    """Return the gap between the halves, shape (2, points)."""
    return np.array([[0, 0], [-0.78, 0.78]])


def furrow(start: float, end: float) -> NDArray[np.float64]:
    """Return a furrow of the half without the region, bent outward, shape (2, points)."""
    along = np.linspace(0, 1, 30)
    return np.stack([-0.46 - 0.14 * np.sin(np.pi * along), start + (end - start) * along])


def circle(angle: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Return points around the region, shape (2, points)."""
    return np.array([CENTRE[0] + radius * np.cos(angle), CENTRE[1] + radius * np.sin(angle)])


if __name__ == "__main__":
    main()
