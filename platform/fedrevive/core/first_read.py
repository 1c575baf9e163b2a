"""Before which upload a run reads none of some settings: until then, runs that differ in them are one run. No torch.

A setting is read for the first time at one of these phases (core/schedules.py `Gates`; first server version t):

    start         0                           dispatch, local training, probing, averaging, evaluation
    teachers      min(freeze, warmup + 1)     beta(tau); first time that the teachers are asked anything
    pool          freeze                      synthesis and what it appends to
    adversarial   max(freeze, warmup)         the student's part in synthesis
    distillation  warmup + 1                  distillation and blending
    never                                     names, folders, where a run computes

`teacher_capacity` is the exception: every upload reads it, but only to forget the oldest teacher. Runs that differ in
it share the run with the largest one, each forgetting what it would have forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from fedrevive.core.schedules import gates, warmup_versions
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.algorithm import AflDwSettings
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.peers import DdFedReviveSettings

Phase = Literal["start", "teachers", "pool", "adversarial", "distillation", "never"]

NEVER = 2**62
"""Arrivals that no run has: what is not read at all."""

EVERYWHERE: dict[str, Phase] = {
    "name": "never",
    "output": "never",
    "snapshots": "never",
    "compute.executor": "never",
    "compute.workers": "never",
    "evaluation.target_accuracy": "never",
}
"""Dotted path -> phase, for settings outside `algorithm`; what is not listed is read at the start."""

FEDREVIVE: dict[str, Phase] = {
    "name": "start",
    "beta": "teachers",
    "reviver.kind": "start",
    "reviver.pull": "distillation",
    "reviver.decay": "start",
    "distill_from": "start",
    "teachers": "start",
    "teacher_capacity": "teachers",
    "generate_every_versions": "pool",
    "freeze_versions": "start",
    "warmup_versions": "start",
    "proportions": "start",
    "probe_samples": "start",
    "probe_temperature": "start",
    "probe_floor": "teachers",
    "labels": "pool",
    "class_weights": "teachers",
    "pool": "teachers",
    "pool_capacity": "pool",
    "synthesis_steps": "pool",
    "synthesis_batch": "pool",
    "generator_lr": "pool",
    "latent_lr": "pool",
    "latent_size": "pool",
    "generator_width": "pool",
    "embedding_weight": "pool",
    "generator_file": "pool",
    "text_start": "pool",
    "prompt_vectors": "pool",
    "weights.onehot": "pool",
    "weights.feature_stats": "pool",
    "weights.adversarial": "adversarial",
    "reptile": "pool",
    "distill_steps": "distillation",
    "distill_batch": "distillation",
    "distill_optimizer": "distillation",
    "distill_lr": "distillation",
    "distill_weight_decay": "distillation",
    "distill_temperature": "distillation",
    "augmentation": "teachers",
    "distill_augmentation": "distillation",
    "remember_answers": "distillation",
    "loss_guard": "teachers",
    "diagnostics": "teachers",
}
"""Path below `algorithm` -> phase; a section's entry holds for all its fields."""

DD_FEDREVIVE: dict[str, Phase] = {
    "name": "start",
    "beta": "distillation",
    "teacher_capacity": "distillation",
    "proportions": "distillation",
    "warmup_versions": "start",
    "distill_steps": "distillation",
    "distill_batch": "distillation",
    "distill_optimizer": "distillation",
    "distill_lr": "distillation",
    "distill_weight_decay": "distillation",
    "distill_temperature": "distillation",
    "augmentation": "distillation",
    "loss_guard": "distillation",
}
AFL_DW: dict[str, Phase] = {"name": "start", "beta": "distillation", "warmup_versions": "start"}

PHASES: dict[str, Mapping[str, Phase]] = {
    "fedrevive": FEDREVIVE,
    "dd_fedrevive": DD_FEDREVIVE,
    "afl_dw": AFL_DW,
}
"""`algorithm.name` -> phases of its settings; the settings of any other algorithm are read at the start."""


def first_read(config: ExperimentConfig, paths: Iterable[str]) -> int:
    """Uploads that a run accepts before it reads any of `paths`; 0 when one is read from the start.

    Runs that agree in everything else, `algorithm.teacher_capacity` included, have the same state, rows and model after
    so many uploads. Stop conditions count as read from the start.

    Args:
        config: one of the runs; which one plays no part.
        paths: dotted; a path that is in none of the tables above counts as read from the start.

    Returns:
        Arrivals; NEVER when no run reads them.
    """
    versions = _first_versions(config)
    phases = (_phase(config.algorithm.name, path) for path in paths)
    return min(
        (NEVER if phase == "never" else versions[phase] * config.updates_per_version for phase in phases),
        default=NEVER,
    )


def _first_versions(config: ExperimentConfig) -> dict[Phase, int]:
    settings, concurrency = config.algorithm, config.server.concurrency
    if isinstance(settings, FedReviveSettings):
        gate = gates(settings, concurrency=concurrency, updates_per_version=config.updates_per_version)
        return {
            "start": 0,
            "teachers": min(gate.freeze, gate.warmup + 1),
            "pool": gate.freeze,
            "adversarial": max(gate.freeze, gate.warmup),
            "distillation": gate.warmup + 1,
        }
    if isinstance(settings, DdFedReviveSettings | AflDwSettings):
        warmup = warmup_versions(settings.warmup_versions, concurrency=concurrency)
        return {"start": 0, "distillation": warmup + 1}
    return {"start": 0}


def _phase(algorithm: str, path: str) -> Phase:
    """The entry for a path, or for the section it lies in."""
    table = PHASES.get(algorithm, {}) if path.startswith("algorithm.") else EVERYWHERE
    known = path.removeprefix("algorithm.")
    while known and known not in table:
        known = known.rpartition(".")[0]
    return table.get(known, "start")
