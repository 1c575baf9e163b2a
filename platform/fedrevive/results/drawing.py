"""The look all pictures share: off-screen canvas, colours, captions, and the same bytes for the same content.

Colours are Okabe and Ito's palette, which stays distinct under the common colour-vision deficiencies; whatever they
tell apart also differs in dash pattern, marker or label.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from fedrevive.results.files import commit_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", (0, (6, 1.5)), (0, (3, 1.2)), (0, (5, 1.5, 1, 1.5)))
INK, MUTED, GRID = "#222222", "#666666", "#E4E4E4"


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure; width and height in units of 100 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Axes) -> None:
    """Give `axes` a light grid and no frame but its bottom line."""
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#AAAAAA")
    axes.tick_params(colors=INK, length=0)


def headline(axes: Axes, text: str) -> None:
    """Write the picture's title above `axes`."""
    axes.set_title(text, loc="left", fontsize=13, fontweight="bold", color=INK, pad=12)


def note(
    axes: Axes,
    text: str,
    point: tuple[float, float],
    offset: tuple[float, float],
    coordinates: tuple[str, str],
    *,
    color: str = INK,
    weight: str = "normal",
) -> None:
    """Write `text` at `point`, `offset` typographic points away, even outside the axes."""
    axes.annotate(
        text,
        point,
        offset,
        xycoords=coordinates,
        textcoords="offset points",
        color=color,
        fontweight=weight,
        fontsize=9.5,
        annotation_clip=False,
    )


def caption(figure: Figure, text: str) -> None:
    """Write small print below the picture."""
    figure.supxlabel(text, x=0.01, ha="left", fontsize=8.5, color=MUTED)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG without anything that changes from one time to the next.

    Raises:
        UserError: exit code 5, `path` cannot be written.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    commit_file(path, content.getvalue())
