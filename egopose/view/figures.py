"""What every plot shares: colours, figures without a window system, robust statistics, atomic PNG files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import require
from egopose.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

SIDE_COLOURS = {"left": "#0072b2", "right": "#d55e00", "middle": "#4a4f57"}
STATUS_COLOURS = ("#a5d1b8", "#56a0d3", "#e0b23c", "#c2506b", "#d5d9df", "#9b4fb0", "#e58a9f")
REFERENCE_COLOUR = "#7d8794"
INK, SOFT = "#1c2430", "#5a6675"


def new_figure(width: float, height: float) -> Figure:
    """A figure of that many inches on a canvas in memory.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    require("matplotlib", "view")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Any) -> None:
    """Axes without a box, in quiet colours."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b9c1cb")
    axes.tick_params(colors=SOFT, labelsize=8)
    axes.yaxis.label.set_color(INK)
    axes.xaxis.label.set_color(INK)


def literal(text: str) -> str:
    """Text in which matplotlib finds no formula: names of files and joints may hold dollar signs."""
    return text.replace("$", r"\$")


def save_png(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, atomically.

    Raises:
        EgoposeError: The file cannot be written.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def median(values: Array, axis: int) -> Array:
    """Median of the finite values along an axis; NaN where there are none."""
    some: NDArray[np.bool_] = np.any(np.isfinite(values), axis=axis)
    filled = np.where(np.expand_dims(some, axis), values, 0.0)
    return np.where(some, np.nanmedian(filled, axis=axis), np.nan)


def percentile(values: Array, q: float) -> float:
    """Percentile of the finite values; 1 when there are none."""
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, q)) if finite.size else 1.0
