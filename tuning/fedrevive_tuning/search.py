"""Carrying out a plan with Ray Tune: trials are handed out by number, and nothing that Tune stores is ever read."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import fedrevive.runtime  # noqa: F401  # first: it sets what Ray reads when it is imported

# isort: split
import pyarrow.fs
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from fedrevive.runtime.session import ray_session
from fedrevive.settings.errors import ExitCode, UserError
from fedrevive_tuning.definition import Asha
from fedrevive_tuning.folder import SearchFolder, TrialRecord
from fedrevive_tuning.placement import Placement
from fedrevive_tuning.plan import Plan
from fedrevive_tuning.trial import SCORE, TIME, TrialOrder, run_trial
from fedrevive_tuning.warm_up import WarmUp, drop_prefixes, make_prefixes

ATTEMPTS = 3
"""How often a trial may lose its process before it counts as failed."""
PASSES = 3
"""How often Tune is started on what is still missing."""
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative data folders mean the user's folder
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def run_search(
    plan: Plan,
    shared: WarmUp,
    placement: Placement,
    *,
    details: Mapping[str, Any],
    interrupted: Callable[[], bool],
    ready: Callable[[], None],
    observe: Callable[[TrialRecord], None],
) -> None:
    """Run every trial that is not done; returns early when interrupted, after the trials have saved.

    Args:
        plan: of a claimed folder.
        shared: what its trials start from.
        placement: what a trial asks.
        details: for the manifests of the runs.
        interrupted: asked several times a second.
        ready: called once Ray is up.
        observe: told of every trial that ends.

    Raises:
        UserError: exit code 5, trials are still missing after several passes.
    """
    os.environ.update(_ENVIRONMENT)
    store = _store_bytes(plan, placement)
    with ray_session(
        cpus=placement.cpus, gpus=placement.gpus, object_store_bytes=store, address=placement.address
    ):
        ready()
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # every failure is in the folder, as one line
        if plan.missing() and shared.arrivals:
            shared = make_prefixes(shared, plan.folder, details, interrupted)
            if not shared.arrivals:
                print(shared.sentence(plan.number), file=sys.stderr, flush=True)
        for _ in range(PASSES):
            if interrupted() or not plan.missing():
                break
            _fit(plan, shared, placement, details, interrupted, observe)
    if interrupted():
        return
    if missing := plan.missing():
        raise UserError(
            f"{len(missing)} trials did not end; go on with: fedrevive resume {plan.folder.directory}",
            exit_code=ExitCode.ENVIRONMENT,
        )
    drop_prefixes(plan.folder)


def _store_bytes(plan: Plan, placement: Placement) -> int:
    """Shared memory: trials in one process need none."""
    if placement.inline:
        return 0
    from fedrevive.runtime.launch import store_bytes
    from fedrevive.tasks import load_task

    base = plan.search.config({}, plan.search.settings.seeds[0])
    return placement.concurrent * placement.seeds * store_bytes(base, load_task(base.task, base.seed))


def _fit(
    plan: Plan,
    shared: WarmUp,
    placement: Placement,
    details: Mapping[str, Any],
    interrupted: Callable[[], bool],
    observe: Callable[[TrialRecord], None],
) -> None:
    scheduler = plan.search.settings.scheduler
    tuner = tune.Tuner(
        tune.with_resources(run_trial, tune.PlacementGroupFactory(placement.bundles())),
        tune_config=tune.TuneConfig(
            num_samples=-1,  # until the plan says that it is finished
            search_alg=PlannedTrials(plan, shared, placement, details, interrupted, observe),
            scheduler=(
                GracefulAsha(plan.folder, scheduler, plan.manifest["horizon"])
                if isinstance(scheduler, Asha)
                else FIFOScheduler()  # type: ignore[no-untyped-call]
            ),
            max_concurrent_trials=placement.concurrent,
            reuse_actors=placement.inline,  # a trial reseeds and rebuilds everything it uses
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(plan.folder.scratch),
            storage_filesystem=pyarrow.fs.LocalFileSystem(),
            verbose=0,
            callbacks=[_Interruption(plan.folder, interrupted)],
        ),
    )
    with redirect_stdout(StringIO()):
        tuner.fit()


def _trial_name(trial: Any) -> str:
    return str(trial.trial_id)


class _OfThisSession:
    """Tune pickles what it is given; none of it is for reading back."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _OfThisSession, ()


class PlannedTrials(_OfThisSession, Searcher):
    """Hands out the missing trials in order, and again those whose process died.

    Args:
        plan: of a claimed folder.
        shared: what its trials start from.
        placement: what a trial asks.
        details: for the manifests of the runs.
        interrupted: hand out nothing more.
        observe: told of every trial that ends.
    """

    def __init__(
        self,
        plan: Plan,
        shared: WarmUp,
        placement: Placement,
        details: Mapping[str, Any],
        interrupted: Callable[[], bool],
        observe: Callable[[TrialRecord], None],
    ) -> None:
        super().__init__()
        self._plan, self._shared, self._placement, self._details = plan, shared, placement, details
        self._interrupted, self._observe = interrupted, observe
        self._waiting = plan.missing()
        self._out: dict[str, TrialRecord] = {}
        self._attempts: Counter[int] = Counter()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next trial; None to be asked again later."""
        if self._interrupted() or not (self._waiting or self._out):
            return str(Searcher.FINISHED)
        busy = {run for record in self._out.values() for run in record.run_ids}
        while self._waiting:
            number = self._waiting[0]
            if self._plan.point(number) is None:
                return None
            record = self._plan.begun(number)
            if busy.intersection(record.run_ids):  # the same configuration again: one process per run folder
                return None
            self._waiting.pop(0)
            if not record.done:
                self._out[trial_id] = record
                return {"order": self._order(record)}
            self._observe(record)
        return None if self._out else str(Searcher.FINISHED)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Take note of an end; `error` = the trial's process died, or raised what another attempt may cure."""
        number = self._out.pop(trial_id).number
        folder = self._plan.folder
        record = folder.record(number)
        assert record is not None
        if not record.done and error and not self._interrupted():
            self._attempts[number] += 1
            if self._attempts[number] < ATTEMPTS:
                self._waiting.insert(0, number)
                return
            cause = record.error or "its process died; is there enough memory?"
            record = replace(record, status="failed", error=f"{cause} ({ATTEMPTS} attempts)", lost=True)
            folder.write(record)
        if record.status != "running":
            self._observe(record)

    def save(self, checkpoint_path: str) -> None:
        """Tune asks for a file; there is nothing to keep."""
        Path(checkpoint_path).touch()

    def _order(self, record: TrialRecord) -> TrialOrder:
        folder = self._plan.folder
        prefixes = [self._shared.folder(folder, seed) for seed in self._plan.search.settings.seeds]
        return TrialOrder(
            number=record.number,
            directory=folder.directory.absolute(),
            configs=self._plan.configs(record.values),
            prefixes=tuple(prefix and prefix.absolute() for prefix in prefixes),
            placement=self._placement,
            details=self._details,
        )


class GracefulAsha(_OfThisSession, ASHAScheduler):
    """ASHA on virtual time that asks a trial to save and end, where Tune would end its process."""

    def __init__(self, folder: SearchFolder, settings: Asha, horizon: float) -> None:
        super().__init__(
            time_attr=TIME,
            metric=SCORE,
            mode="max",
            max_t=horizon,  # type: ignore[arg-type]  # any monotone number will do, as its documentation says
            grace_period=settings.grace,  # type: ignore[arg-type]
            reduction_factor=settings.reduction_factor,
            stop_last_trials=False,
        )
        self._folder = folder

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Always CONTINUE; the trial looks for the request before it goes on."""
        if super().on_trial_result(tune_controller, trial, result) == TrialScheduler.STOP:
            self._folder.request_stop(trial.config["order"].number)
        return str(TrialScheduler.CONTINUE)


class _Interruption(_OfThisSession, tune.Callback):
    """Passes a signal on to the trials."""

    def __init__(self, folder: SearchFolder, interrupted: Callable[[], bool]) -> None:
        self._folder, self._interrupted = folder, interrupted

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called by Tune several times a second."""
        if self._interrupted() and not self._folder.stop_requested():
            self._folder.request_stop()
