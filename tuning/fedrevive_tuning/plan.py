"""Which configuration trial n has: drawn up front for random and grid, asked in a fixed order for optuna."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedrevive.results.schemas import NANOSECONDS_PER_UNIT
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import UserError
from fedrevive.settings.identity import run_id
from fedrevive_tuning.definition import Asha, Search, from_document
from fedrevive_tuning.folder import KIND, SearchFolder, TrialRecord
from fedrevive_tuning.sampling import Asker
from fedrevive_tuning.spaces import Point, corner_points
from fedrevive_tuning.table import score
from fedrevive_tuning.validation import needs_horizon


def new_manifest(
    search: Search,
    *,
    columns: Mapping[str, str],
    points: Sequence[Point] | None,
    concurrent: int,
    horizon: float | None,
    details: Mapping[str, Any],
) -> dict[str, Any]:
    """JSON values of a search folder's manifest: the whole plan.

    Args:
        search: checked.
        columns: path -> column type, from `check_search`.
        points: all configurations; None for optuna.
        concurrent: trials that optuna may have out when it is asked for the next one; part of its plan.
        horizon: virtual time units of a whole run, where the search needs it.
        details: versions, hardware lane, command, time.
    """
    return {
        "kind": KIND,
        "identity": search.identity(),
        "document": search.document(),
        "number": search.settings.trials if points is None else len(points),
        "points": points,
        "concurrent": concurrent,
        "columns": dict(columns),
        "horizon": horizon,
        **details,
    }


def horizon(search: Search) -> float | None:
    """Virtual time units of the search's longest whole run without searched values; None where it does not matter.

    Raises:
        UserError: it lies before asha's first rung, or times to a target would be compared over different horizons.
    """
    if not needs_horizon(search):
        return None
    units = max(_end(search.config({}, seed)) for seed in search.settings.seeds)
    if search.settings.objective == "time_to_target":
        _require_one_horizon(search)
    scheduler = search.settings.scheduler
    if isinstance(scheduler, Asha) and scheduler.grace >= units:
        raise UserError(
            f"search.scheduler.grace: {scheduler.grace} virtual time units, but a run ends at {units:.4g}; lower it",
            place=search.places.get("search.scheduler.grace", ""),
        )
    return units


def _end(config: ExperimentConfig) -> float:
    """Virtual time units of a whole run."""
    from fedrevive.simulation.planning import schedule

    if config.stop.virtual_time is not None and config.stop.arrivals is None:
        return config.stop.virtual_time
    return float(schedule(config).accepted_at.max(initial=0)) / NANOSECONDS_PER_UNIT


def _require_one_horizon(search: Search) -> None:
    """A run that ends early must not win by counting its failure as twice a short time."""
    seed = search.settings.seeds[0]
    ends = {_end(search.config(point, seed)) for point in corner_points(search.space)}
    if len(ends) > 1:
        raise UserError(
            f"search.objective: time_to_target, but whole runs end at {min(ends):.4g} to {max(ends):.4g} virtual time "
            "units; set stop.virtual_time, and no stop.arrivals, in overrides",
            place=search.places.get("search.objective", ""),
        )


class Plan:
    """The trials of a claimed search folder."""

    def __init__(self, folder: SearchFolder) -> None:
        self.folder = folder
        self.manifest = folder.manifest
        self.search = from_document(self.manifest["document"])
        self.number: int = self.manifest["number"]
        """How many trials there are."""
        self._asker: Asker | None = None
        self._points: list[Point] = self.manifest["points"] or []
        self._told = 0

    def point(self, number: int) -> Point | None:
        """Configuration of trial `number`; None while optuna waits for the results of trials before it.

        Optuna is asked for trial n once trials 0..n - concurrent have been told and no other, so whoever asks again
        from the start is given the same answers.
        """
        while len(self._points) <= number:
            asked = len(self._points)
            while self._told <= asked - self.manifest["concurrent"]:
                record = self.folder.record(self._told)
                if record is None or not (record.done or record.lost):
                    return None
                told = None if record.lost else score(self.folder, self.manifest, record)
                self._questions().tell(self._told, told)
                self._told += 1
            self._points.append(self._questions().ask())
            self._require_recorded(asked)
        return self._points[number]

    def configs(self, point: Point) -> tuple[ExperimentConfig, ...]:
        """One experiment per seed. Raises `UserError` for values that do not fit together."""
        return tuple(self.search.config(point, seed) for seed in self.search.settings.seeds)

    def begun(self, number: int) -> TrialRecord:
        """The record of trial `number`, written when it is handed out for the first time.

        Values that optuna chose and that do not fit together make a failed trial. A configuration that it chose before
        has that trial's outcome: going on with runs that were stopped would change a score it was told.
        """
        record = self.folder.record(number) or self._new_record(number)
        twin = None if record.done else self._twin(record)
        if twin is not None:
            record = replace(record, status=twin.status, error=twin.error)
            self.folder.write(record)
        return record

    def _new_record(self, number: int) -> TrialRecord:
        point = self.point(number)
        assert point is not None
        try:
            record = TrialRecord(number, point, tuple(run_id(config) for config in self.configs(point)))
        except UserError as error:
            unknown = ("",) * len(self.search.settings.seeds)
            record = TrialRecord(number, point, unknown, "failed", str(error))
        self.folder.write(record)
        return record

    def _twin(self, record: TrialRecord) -> TrialRecord | None:
        """An earlier trial with the same runs that has ended; only optuna repeats itself."""
        if self.manifest["points"] is not None:
            return None
        earlier = (other for other in self.folder.records() if other.number < record.number)
        return next(
            (other for other in earlier if other.run_ids == record.run_ids and other.done and not other.lost),
            None,
        )

    def missing(self) -> list[int]:
        """Trials that are not done, in order."""
        done = {record.number for record in self.folder.records() if record.done}
        return [number for number in range(self.number) if number not in done]

    def _questions(self) -> Asker:
        if self._asker is None:
            settings = self.search.settings
            maximise = settings.objective != "time_to_target"
            self._asker = Asker(self.search.space, settings.seed, maximise=maximise)
        return self._asker

    def _require_recorded(self, number: int) -> None:
        record = self.folder.record(number)
        if record is not None and record.values != self._points[number]:
            raise UserError(
                f"{self.folder.directory}: optuna now chooses otherwise for trial {number}; go on with the versions in "
                "its manifest.json, or start anew in another folder"
            )
