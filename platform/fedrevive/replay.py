"""The recorded timeline of a finished run, and whether another experiment meets the same arrivals.

A timeline is a pure function of configuration and seed, so it is played again rather than read from the record; the
record is what the new one is held against, upload by upload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrevive.algorithms import dispatch_of
from fedrevive.results.manifest import read_manifest
from fedrevive.results.reading import read_table
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.draft import Setting, flattened
from fedrevive.settings.errors import UserError, shown
from fedrevive.settings.loading import Source, with_compute
from fedrevive.simulation.timeline import Arrival, Timeline

MOVES_ARRIVALS = ("seed", "task.clients", "server.concurrency", "server.charge_time", "delays", "faults")
"""Settings that another timeline follows from, whatever their values; a section stands for all in it."""

Upload = tuple[int, int, int, int]
"""Client, and virtual nanoseconds of dispatch, arrival and acceptance."""


@dataclass(frozen=True)
class Recording:
    """A finished run."""

    directory: Path
    values: Mapping[str, Any]
    """Its configuration, as the manifest holds it."""
    uploads: int
    """That reached the server, accepted or rejected."""

    def accepted(self) -> dict[int, Upload]:
        """Those that the server accepted, by number of the job.

        Raises:
            UserError: the tables are damaged (exit code 3).
        """
        names = ("job", "client", "dispatched_at", "arrives_at", "accepted_at")
        table = read_table(self.directory, "arrivals")
        rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
        return {job: (client, sent, arrived, taken) for job, client, sent, arrived, taken in rows}


def read_recording(directory: Path) -> Recording:
    """The timeline in a run folder.

    Raises:
        UserError: it holds no finished run (exit code 2), or its manifest is damaged (3).
    """
    manifest = read_manifest(directory)
    if manifest.get("kind", "run") != "run":
        raise UserError(
            f"{directory}: holds a {manifest['kind']}; name one run of it, below {directory}/runs"
        )
    if "summary" not in manifest:
        raise UserError(f"{directory}: the run is not finished; go on with: fedrevive resume {directory}")
    return Recording(directory, manifest["config"], manifest["summary"]["arrivals"])


def replayed_config(recording: Recording, changes: list[Setting]) -> ExperimentConfig:
    """The recorded experiment with `changes`; it stops after the recorded uploads unless they say otherwise.

    Raises:
        UserError: as `settings.loading.load`; or the changes move the arrivals.
    """
    end = [Setting("stop.arrivals", recording.uploads), Setting("stop.virtual_time", None)]
    kept = [*end, Setting("stop.target_accuracy", None), Setting("output", None)]
    config = Source(dict(recording.values)).config([*kept, *changes])
    _require_same_settings(recording, config)
    _require_same_uploads(recording, config)
    return config


def _require_same_settings(recording: Recording, config: ExperimentConfig) -> None:
    recorded, wanted = (_leaves(values) for values in (recording.values, config.model_dump(mode="json")))
    paths = dict.fromkeys((*wanted, *recorded))
    for path in sorted(
        paths, key=lambda path: not path.endswith(".kind")
    ):  # of a section, what the others follow from
        if path.startswith(MOVES_ARRIVALS) and recorded.get(path) != wanted.get(path):
            raise UserError(
                f"{path}: {shown(wanted.get(path))} moves the arrivals, which were recorded with "
                f"{shown(recorded.get(path))}; leave it out, or use run"
            )
    old = with_compute(recording.values, {}).algorithm
    if dispatch_of(old) != dispatch_of(config.algorithm):
        raise UserError(
            f"algorithm.name: {config.algorithm.name} dispatches clients in another way than {old.name}, so it cannot "
            "meet the recorded arrivals; use run"
        )


def _require_same_uploads(recording: Recording, config: ExperimentConfig) -> None:
    """Play the new timeline beside the recorded one.

    Raises:
        UserError: they differ; names the first upload that does.
    """
    accepted, met = recording.accepted(), 0
    timeline = Timeline(config, dispatch_of(config.algorithm))
    while timeline.arrivals < recording.uploads:
        event = timeline.advance()
        if not isinstance(event, Arrival):
            continue
        task = event.task
        found = (task.client_id, task.dispatched_at, task.arrives_at, timeline.now)
        recorded = accepted.get(task.job)
        if recorded is not None and recorded != found:
            raise UserError(
                f"{recording.directory}: upload {event.sequence} came from client {recorded[0]} at {recorded[3]} ns, "
                f"here from client {found[0]} at {found[3]} ns; {_reason(config)}"
            )
        met += recorded is not None
    if met < len(accepted):
        raise UserError(
            f"{recording.directory}: {len(accepted) - met} recorded uploads do not come; {_reason(config)}"
        )


def _reason(config: ExperimentConfig) -> str:
    if config.server.charge_time is not None:
        return "with server.charge_time, algorithms of other cost meet other arrivals"
    if config.delays.kind == "trace":
        return "with a trace, client.local_steps and the model's size move them"
    return "was it recorded by another version of fedrevive?"


def _leaves(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        leaf.path: leaf.value for name, value in config.items() for leaf in flattened(Setting(name, value))
    }
