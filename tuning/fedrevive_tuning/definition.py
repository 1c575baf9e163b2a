"""A search file: which experiment, which space, how to search it.

experiment: digits                       # a preset, or a file (its path counts from this file's folder)
overrides: {stop.arrivals: 200}
search:
  searcher: random
  trials: 12
  seeds: [0, 1]
  objective: final_accuracy
  space:
    algorithm.teacher_capacity: {choice: [2, 4, 8]}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from fedrevive.settings import ExperimentConfig
from fedrevive.settings.draft import Setting
from fedrevive.settings.errors import UserError, did_you_mean, shown
from fedrevive.settings.identity import run_id
from fedrevive.settings.loading import Source, file_content, is_file, parsed_source, source_content
from fedrevive.settings.section import Section
from fedrevive.settings.validation import validated
from fedrevive.settings.yaml_reader import read
from fedrevive_tuning.space_reader import parse_space
from fedrevive_tuning.spaces import Point, Space, parameters

SHIPPED = Path(__file__).resolve().parent / "searches"
MOST_TRIALS = 10_000
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


class Fifo(Section):
    """Every trial runs to its end."""

    kind: Literal["fifo"] = "fifo"
    """Discriminator."""


class Asha(Section):
    """Asynchronous successive halving (arXiv 1810.05934) on virtual time: of the trials that reached a rung, only the
    best 1/reduction_factor go on. Trials are compared by the moving average of validation accuracy, mean over seeds.
    """

    kind: Literal["asha"] = "asha"
    """Discriminator."""
    grace: float = Field(gt=0, le=1e9)
    """Virtual time units of the first rung, > 0, each next one reduction_factor times later. No default: it depends on
    the task."""
    reduction_factor: int = Field(4, ge=2, le=100)
    """Share that goes on is 1/reduction_factor. Ray Tune's default."""


class SearchSettings(Section):
    """How a space is searched."""

    space: dict[str, Any] = Field(min_length=1)
    """Dotted path -> distribution, see `spaces`."""
    searcher: Literal["random", "grid", "optuna"] = "random"
    """random: independent draws, no configuration twice; grid: every combination; optuna: tree-structured Parzen
    estimator (multivariate, grouped), needs the extra `search`. Ours."""
    seed: Seed = 0
    """Seed of the draws. Ours."""
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] | None = None
    """Configurations to try; grid counts them itself."""
    seeds: tuple[Seed, ...] = Field((0,), strict=False, min_length=1, max_length=1000)
    """Experiment seeds of every trial; its score is the mean over them. Trials of a seed meet the same arrivals."""
    objective: Literal["final_accuracy", "auc", "time_to_target"] = "final_accuracy"
    """On the validation split: mean of the last 10 accuracies, time-average of the accuracy, or virtual time to
    evaluation.target_accuracy (never reached: twice the virtual time of a whole run, as in PAR-2; ours)."""
    scheduler: Annotated[Fifo | Asha, Field(discriminator="kind")] = Fifo()
    """Whether trials may be stopped early. Ours: no."""
    fork: Literal["auto", "off"] = "auto"
    """auto: what all trials of a seed have in common before a searched setting is read for the first time is run once;
    off: every trial runs from zero. The results are the same, bit for bit. Ours."""


@dataclass(frozen=True)
class Search:
    """A search as read; `document` gives it back as plain values."""

    settings: SearchSettings
    space: Space
    overrides: tuple[Setting, ...]
    experiment: str
    """Preset or file, as a command line takes it."""
    text: str
    """Content of that preset or file, so that a search never depends on a file that changes."""
    source: Source
    places: Mapping[str, str]
    """Key in the search file -> line and file."""

    def config(self, point: Point, seed: int) -> ExperimentConfig:
        """The experiment of one trial and seed.

        It runs inside the trial's process unless the experiment or the overrides name compute.executor.

        Raises:
            UserError: a value that is not allowed, or values that do not fit together; nothing was made.
        """
        searched = [Setting(path, value) for path, value in point.items()]
        config = self.source.config([*self.overrides, *searched, Setting("seed", seed)])
        if "executor" in config.compute.model_fields_set:
            return config
        return config.model_copy(update={"compute": config.compute.model_copy(update={"executor": "inline"})})

    def document(self) -> dict[str, Any]:
        """JSON values from which `from_document` makes an equal search."""
        return {
            "search": self.settings.model_dump(mode="json"),
            "overrides": {setting.path: setting.value for setting in self.overrides},
            "experiment": self.experiment,
            "text": self.text,
        }

    def identity(self) -> str:
        """Hexadecimal digits that are equal exactly for searches with the same trials; includes the package version."""
        document = {**self.document(), "base": run_id(self.config({}, self.settings.seeds[0]))}
        del document["experiment"]  # the way to the file; its content is there
        document["overrides"] = sorted(document["overrides"].items())
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()[:16]

    def with_options(self, *, trials: int | None, seeds: tuple[int, ...] | None) -> Search:
        """The search with another number of trials and other seeds, where given."""
        given = {"trials": trials, "seeds": seeds and list(seeds)}
        changed = {name: value for name, value in given.items() if value is not None}
        values = {**self.settings.model_dump(mode="json"), **changed}
        return replace(self, settings=_settings(values, self.places))


def search_names() -> tuple[str, ...]:
    """Names of the searches that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))


def read_search(source: str) -> Search:
    """Read a shipped search or a search file.

    Args:
        source: name of a shipped search, or path of a file (it holds a slash or ends in .yaml or .yml).

    Raises:
        UserError: the first problem that shows without trying values.
    """
    if not is_file(source) and source not in search_names():
        hint = did_you_mean(source, search_names()) or f"; known: {', '.join(search_names())}"
        raise UserError(f"{shown(source)}: no such search (a file has a slash or ends in .yaml){hint}")
    path = Path(source) if is_file(source) else SHIPPED / f"{source}.yaml"
    name = source if is_file(source) else f"search {source}"
    values, lines = read(file_content(path), name)
    places = {key: f"line {line} of {name}" for key, line in lines.items()}
    experiment = values.get("experiment")
    if not isinstance(experiment, str):
        raise UserError(
            "experiment: missing or not a text; name a preset or a YAML file",
            place=places.get("experiment", name),
        )
    if is_file(experiment):
        experiment = str(path.parent / experiment)
    try:
        content, _ = source_content(experiment)
    except UserError as error:
        place = places["experiment"]
        raise UserError(f"experiment: {error.message}", place=place, exit_code=error.exit_code) from None
    return _assembled({**values, "experiment": experiment}, places, content, experiment)


def search_files(source: str, search: Search) -> tuple[str, dict[str, bytes]]:
    """How to name a search elsewhere, and the files that must lie beside it there: none for a shipped one.

    Args:
        source: as typed.
        search: what was read from it.
    """
    if not is_file(source):
        return source, {}
    own = is_file(search.experiment)
    document = {**search.document(), "experiment": "./experiment.yaml" if own else search.experiment}
    text = document.pop("text")
    files = {"search.yaml": json.dumps(document, indent=1).encode()}
    return "./search.yaml", files | ({"experiment.yaml": text.encode()} if own else {})


def from_document(document: Mapping[str, Any]) -> Search:
    """The search that a search folder's manifest holds."""
    content = document["text"].encode()
    return _assembled(dict(document), {}, content, document["experiment"])


def _assembled(values: dict[str, Any], places: Mapping[str, str], content: bytes, experiment: str) -> Search:
    known = ("experiment", "overrides", "search")
    for key in values:
        if key not in (*known, "text"):
            hint = did_you_mean(key, known) or f"; known: {', '.join(known)}"
            raise UserError(f"{key}: unknown field{hint}", place=places.get(key, ""))
    overrides = values.get("overrides", {})
    if not isinstance(overrides, dict):
        raise UserError(
            f"overrides: {shown(overrides)} is not a mapping of dotted paths",
            place=places.get("overrides", ""),
        )
    if "seed" in overrides:
        raise UserError(
            "overrides.seed: search.seeds gives the seeds", place=places.get("overrides.seed", "")
        )
    settings = _settings(values.get("search"), places)
    space = parse_space(settings.space, "search.space", places)
    if twice := [parameter.key for parameter in parameters(space) if parameter.path in overrides]:
        raise UserError(f"{twice[0]}: also in overrides; leave it out of one", place=places.get(twice[0], ""))
    return Search(
        settings=settings,
        space=space,
        overrides=tuple(
            Setting(path, value, places.get(f"overrides.{path}", "")) for path, value in overrides.items()
        ),
        experiment=experiment,
        text=content.decode("utf-8", errors="replace"),
        source=parsed_source(content, experiment),
        places=places,
    )


def _settings(values: Any, places: Mapping[str, str]) -> SearchSettings:
    if not isinstance(values, dict):
        raise UserError(
            "search: missing or not a mapping; it needs at least space", place=places.get("search", "")
        )
    return validated(values, places, SearchSettings, under="search")
