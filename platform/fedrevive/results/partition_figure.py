"""Which classes each client holds, as a heat map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedrevive.results.drawing import INK, caption, headline, new_figure, save

COLOURS = "cividis"
"""Even in lightness, and readable with any colour vision."""


def partition_figure(histograms: NDArray[np.int64], title: str, path: Path) -> None:
    """Draw the share of each class in each client's samples, and beside it how many samples the client holds.

    Clients stand in the order of their largest class and its share, so that skew shows as a staircase.

    Args:
        histograms: [clients, classes], every client with one sample or more.
        title: one line.
        path: PNG to write.

    Raises:
        UserError: exit code 5, `path` cannot be written.
    """
    samples = histograms.sum(1)
    shares = histograms / samples[:, None]
    order = np.lexsort((-shares.max(1), shares.argmax(1)))
    figure = new_figure(9, 5.5)
    map_axes, bar_axes = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    drawn = map_axes.imshow(
        shares[order].T, aspect="auto", interpolation="nearest", cmap=COLOURS, vmin=0, vmax=1
    )
    map_axes.set_ylabel("class")
    headline(map_axes, title)
    bar = figure.colorbar(drawn, ax=map_axes, pad=0.01)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    bar.set_label("share of the client's samples")
    bar_axes.fill_between(np.arange(len(samples)), samples[order], step="mid", color="#0072B2", linewidth=0)
    bar_axes.set_ylim(0, 1.1 * samples.max())
    bar_axes.set_ylabel("samples")
    bar_axes.set_xlabel("clients, in the order of their largest class")
    for axes in (map_axes, bar_axes):
        axes.spines[:].set_visible(False)
        axes.tick_params(colors=INK, length=0)
    caption(figure, f"{len(samples):,} clients, {samples.sum():,} training samples held")
    save(figure, path)
