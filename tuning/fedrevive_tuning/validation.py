"""Checks of a search before anything is made: no trial of a checked random or grid search can fail validation."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from fedrevive.core.target import target_of
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import UserError
from fedrevive_tuning.definition import MOST_TRIALS, Asha, Search
from fedrevive_tuning.spaces import Choices, Parameter, Point, Range, corner_points, parameters, space_size


def check_search(search: Search) -> dict[str, str]:
    """Try both ends of every range and every listed value.

    Returns:
        The table's column type of every searched path: int64, float64, bool or string (also for mixed values).

    Raises:
        UserError: the first problem.
    """
    _check_searcher(search)
    first = search.settings.seeds[0]
    if len(set(search.settings.seeds)) < len(search.settings.seeds):
        raise UserError("search.seeds: names a seed twice", place=search.places.get("search.seeds", ""))
    _check_ends(search, search.config({}, first))
    found: dict[str, set[str]] = {parameter.path: set() for parameter in parameters(search.space)}
    for point in corner_points(search.space):
        config = checked_config(search, point, first)
        _check_ends(search, config)
        for path in point:
            found[path].add(_kind(value_at(config, path)))
    _check_count(search)
    return {path: _column(kinds) for path, kinds in found.items()}


def checked_config(search: Search, point: Point, seed: int) -> ExperimentConfig:
    """`search.config`, with an error that says where in the search file the value stands."""
    try:
        return search.config(point, seed)
    except UserError as error:
        path = error.message.partition(":")[0]
        chosen = _active(search.space, point)  # of an unknown section the error names the section alone
        keys = [parameter.key for parameter in chosen if f"{parameter.path}.".startswith(f"{path}.")]
        place = search.places.get(keys[0], "") if keys and not error.place else error.place
        raise UserError(error.message, place=place, more=error.more, exit_code=error.exit_code) from None


def value_at(config: ExperimentConfig, path: str) -> Any:
    """The validated value at a dotted path (20 becomes 20.0 where a number with a fraction is expected)."""
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _check_searcher(search: Search) -> None:
    for parameter in parameters(search.space):
        _check_kind(search, parameter)
    if search.settings.searcher == "optuna" and find_spec("optuna") is None:
        raise UserError(
            "search.searcher: optuna is not installed; pip install 'fedrevive[search]', or use random",
            place=search.places.get("search.searcher", ""),
        )


def _check_count(search: Search) -> None:
    settings, place = search.settings, search.places.get("search.searcher", "")
    size = space_size(search.space)
    if settings.searcher == "grid":
        if settings.trials is not None and settings.trials != size:
            raise UserError(
                f"search.trials: {settings.trials}, but the grid has {size} combinations; leave trials out",
                place=search.places.get("search.trials", ""),
            )
        if size is not None and size > MOST_TRIALS:
            raise UserError(
                f"search.space: {size} combinations; at most {MOST_TRIALS}, or use random", place=place
            )
        return
    if settings.trials is None:
        raise UserError(f"search.trials: missing; {settings.searcher} needs a number of trials", place=place)
    if settings.searcher == "random" and size is not None and settings.trials > size:
        raise UserError(
            f"search.trials: {settings.trials}, but the space has only {size} configurations; lower trials or use grid",
            place=search.places.get("search.trials", ""),
        )


def _check_kind(search: Search, parameter: Parameter) -> None:
    grid = search.settings.searcher == "grid"
    place = search.places.get(parameter.key, "")
    kind = parameter.distribution.kind
    if grid and isinstance(parameter.distribution, Range):
        raise UserError(
            f"{parameter.key}: searcher grid cannot enumerate {kind}; list the values", place=place
        )
    if not grid and kind == "grid":
        raise UserError(
            f"{parameter.key}: grid belongs to searcher grid; {search.settings.searcher} draws from a choice",
            place=place,
        )


def _check_ends(search: Search, config: ExperimentConfig) -> None:
    """An objective or scheduler may need to know a target and the end of a run."""
    stop, settings = config.stop, search.settings
    if settings.objective == "time_to_target" and target_of(config) is None:
        raise UserError(
            "search.objective: time_to_target needs a target; set evaluation.target_accuracy in overrides",
            place=search.places.get("search.objective", ""),
        )
    if needs_horizon(search) and stop.arrivals is None and stop.virtual_time is None:
        what = "scheduler asha" if isinstance(settings.scheduler, Asha) else "objective time_to_target"
        raise UserError(f"stop: {what} needs the end of a run; set stop.arrivals or stop.virtual_time")


def needs_horizon(search: Search) -> bool:
    """Whether the virtual time of a whole run must be known."""
    return isinstance(search.settings.scheduler, Asha) or search.settings.objective == "time_to_target"


def _active(space: Iterable[Parameter], point: Point) -> Iterable[Parameter]:
    """Parameters of the branches that `point` chose."""
    for parameter in space:
        yield parameter
        distribution = parameter.distribution
        if isinstance(distribution, Choices) and point.get(parameter.path) in distribution.values:
            yield from _active(distribution.branch(distribution.values.index(point[parameter.path])), point)


def _kind(value: Any) -> str:
    kinds = {bool: "bool", int: "int64", float: "float64", type(None): "null"}
    return kinds.get(type(value), "string")


def _column(kinds: set[str]) -> str:
    found = kinds - {"null"}
    if found == {"int64", "float64"}:
        return "float64"
    return found.pop() if len(found) == 1 else "string"
