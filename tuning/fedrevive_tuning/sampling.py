"""Drawing configurations: Ray Tune's distributions for random search, Optuna's TPE, plain enumeration for a grid."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedrevive.settings.errors import UserError
from fedrevive_tuning.definition import Search
from fedrevive_tuning.spaces import Choices, Point, Range, Space, grid_points

MOST_DRAWS = 100_000
"""Draws for one trial before the space counts as exhausted."""


def planned_points(search: Search) -> list[Point] | None:
    """All configurations of a random or grid search, in the order of the trials; None for optuna, which asks later.

    Trial n of a random search depends on search.seed and n alone, unless it would repeat an earlier one.

    Raises:
        UserError: a random search found no configuration that was not drawn before.
    """
    settings = search.settings
    if settings.searcher == "grid":
        return list(grid_points(search.space))
    if settings.searcher == "optuna":
        return None
    assert settings.trials is not None
    points: list[Point] = []
    seen: set[str] = set()
    for trial in range(settings.trials):
        points.append(_new_point(search.space, np.random.default_rng([settings.seed, trial]), seen))
        seen.add(json.dumps(points[-1]))
    return points


def _new_point(space: Space, stream: np.random.Generator, seen: set[str]) -> Point:
    for _ in range(MOST_DRAWS):
        point = _drawn(space, stream)
        if json.dumps(point) not in seen:
            return point
    raise UserError(
        f"search.trials: only {len(seen)} different configurations were found; lower trials or use grid"
    )


def _drawn(space: Space, stream: np.random.Generator) -> Point:
    point: Point = {}
    for parameter in space:
        distribution = parameter.distribution
        if isinstance(distribution, Range):
            point[parameter.path] = _number(distribution, _domain(distribution).sample(random_state=stream))
        else:
            index = _domain(distribution).sample(random_state=stream)
            point[parameter.path] = distribution.values[index]
            point |= _drawn(distribution.branch(index), stream)
    return point


def _domain(distribution: Range | Choices) -> Any:
    """Ray Tune's counterpart; its integers exclude the upper end."""
    import fedrevive.runtime  # noqa: F401  # first: it sets what Ray reads when it is imported

    # isort: split
    from ray import tune

    if isinstance(distribution, Choices):
        return tune.choice(range(len(distribution.values)))
    kind = distribution.kind
    if kind == "quniform":
        if distribution.integer and distribution.step == 1:  # here alone qrandint leaves the upper end out
            return tune.randint(int(distribution.low), int(distribution.high) + 1)
        make: Any = tune.qrandint if distribution.integer else tune.quniform
        return make(distribution.low, distribution.high, distribution.step)
    return getattr(tune, kind)(
        distribution.low, distribution.high + 1 if distribution.integer else distribution.high
    )


def _number(distribution: Range, drawn: float) -> float:
    """A plain number within the range; a multiple of a step without the noise of the multiplication."""
    value = int(drawn) if distribution.integer else float(drawn)
    if distribution.step is not None and not distribution.integer:
        value = float(f"{value:.12g}")
    return min(max(value, distribution.low), distribution.high)


class Asker:
    """Optuna's questions in order: the n-th answer depends on the seed, the space and the results told before it."""

    def __init__(self, space: Space, seed: int, *, maximise: bool) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
        self._study = optuna.create_study(sampler=sampler, direction="maximize" if maximise else "minimize")
        self._space = space
        self._trials: list[Any] = []

    def ask(self) -> Point:
        """The configuration of the next trial."""
        trial = self._study.ask()
        self._trials.append(trial)
        return _suggested(self._space, trial)

    def tell(self, number: int, score: float | None) -> None:
        """Score of trial `number`; None for one that failed."""
        from optuna.trial import TrialState

        if score is None:
            self._study.tell(self._trials[number], state=TrialState.FAIL)
        else:
            self._study.tell(self._trials[number], score)


def _suggested(space: Space, trial: Any) -> Point:
    """One question per parameter that the choices so far bring along, named by its place in the search file."""
    point: Point = {}
    for parameter in space:
        distribution = parameter.distribution
        if isinstance(distribution, Range):
            point[parameter.path] = _suggested_number(parameter.key, distribution, trial)
        else:
            indices: Sequence[int] = range(len(distribution.values))
            index = trial.suggest_categorical(parameter.key, list(indices))
            point[parameter.path] = distribution.values[index]
            point |= _suggested(distribution.branch(index), trial)
    return point


def _suggested_number(name: str, distribution: Range, trial: Any) -> float:
    low, high = distribution.low, distribution.high
    options: dict[str, Any] = {"log": True} if distribution.logarithmic else {}
    if distribution.step is not None:
        options["step"] = distribution.step
    ask = trial.suggest_int if distribution.integer else trial.suggest_float
    return _number(distribution, ask(name, low, high, **options))
