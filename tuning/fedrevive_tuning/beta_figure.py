"""β(τ) of the best trial of each family over the staleness that its runs met."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedrevive.core.beta_rule import BetaRule, configured_beta_rule
from fedrevive.results.drawing import DASHES, PALETTE, caption, headline, new_figure, plain_axes, save
from fedrevive.results.figures import beta_axis, draw_staleness
from fedrevive.results.folder import has_manifest
from fedrevive.results.manifest import read_manifest
from fedrevive.results.reading import read_table
from fedrevive.settings.loading import with_compute
from fedrevive_tuning.figure_data import Objective, Trial

_MOMENTS = 40
"""Moments of a run at which an adaptive family's curve is looked at."""
_POINTS = 400
_BAND = (0.1, 0.9)


class _Candidate(NamedTuple):
    family: str
    trial: Trial
    rule: BetaRule
    staleness: NDArray[np.int64]
    """Of every arrival of the first of its runs that has any, in order."""


def beta_figure(trials: Sequence[Trial], meaning: Objective, directory: Path, path: Path) -> bool:
    """Draw β(τ) of the best trial of each family, best family first, over the best trial's staleness.

    A family that adapts is drawn as its median curve over the run, with the middle 80 % of its curves as a band.

    Returns:
        False, with nothing written, when no run of a trial with a score has a β and an arrival.

    Raises:
        UserError: exit code 5, `path` cannot be written; 3, a run's folder is damaged.
    """
    best = _best_of_each_family(meaning.ranked(trials), directory)
    if not best:
        return False
    figure = new_figure(10, 5.5)
    axes = figure.add_subplot()
    plain_axes(axes)
    headline(axes, "β of each family's best trial" if len(best) > 1 else "β of the best trial")
    covered, text = draw_staleness(axes, best[0].staleness)
    taus = covered[:: -(-covered.size // _POINTS)]
    right = beta_axis(axes)
    for index, candidate in enumerate(best):
        color, dashes = PALETTE[1 + index % (len(PALETTE) - 1)], DASHES[index % len(DASHES)]
        curves = _curves(candidate, taus)
        label = (
            f"{candidate.family}\ntrial {candidate.trial.number}, {meaning.text(candidate.trial.score or 0)}"
        )
        right.plot(taus, np.median(curves, axis=0), color=color, linewidth=2, linestyle=dashes, label=label)
        if len(curves) > 1:
            low, high = np.quantile(curves, _BAND, axis=0)
            right.fill_between(taus, low, high, color=color, alpha=0.15, linewidth=0)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9, handlelength=3.2)
    adaptive = (
        "; line and band: median and middle 80 % of an adaptive family's curves over its run"
        if any(c.rule.window for c in best)
        else ""
    )
    caption(figure, f"bars: trial {best[0].trial.number}, {text}{adaptive}")
    save(figure, path)
    return True


def _best_of_each_family(ranked: Sequence[Trial], directory: Path) -> list[_Candidate]:
    found: dict[str, _Candidate] = {}
    for trial in ranked:
        for run_id in trial.run_ids:
            candidate = _candidate(trial, directory / "runs" / run_id, found)
            if candidate is not None:
                found[candidate.family] = candidate
                break
    return list(found.values())


def _candidate(trial: Trial, folder: Path, known: dict[str, _Candidate]) -> _Candidate | None:
    if not has_manifest(folder):
        return None
    config = with_compute(read_manifest(folder)["config"], {})
    rule = configured_beta_rule(config)
    if rule is None:
        return None
    family = config.algorithm.beta.family  # type: ignore[union-attr]
    if family in known:
        return None
    staleness = read_table(folder, "arrivals").column("staleness").to_numpy()
    return _Candidate(family, trial, rule, staleness) if staleness.size else None


def _curves(candidate: _Candidate, taus: NDArray[np.int64]) -> NDArray[np.float64]:
    """β [moments, taus]; one moment for a family that does not adapt."""
    rule, staleness = candidate.rule, candidate.staleness
    moments = np.unique(np.linspace(0, staleness.size, _MOMENTS, dtype=np.int64)) if rule.window else [0]
    curves = []
    for moment in moments:
        observed = tuple(staleness[max(0, moment - rule.window) : moment].tolist())
        beta = rule.schedule(observed)
        curves.append([beta(int(tau)) for tau in taus])
    return np.array(curves, np.float64)
