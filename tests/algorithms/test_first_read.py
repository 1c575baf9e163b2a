"""Settings are read no earlier than core/first_read.py says: runs that differ in one agree bit for bit until then."""

from __future__ import annotations

import json

import pytest

from fedrevive.algorithms import forked_state
from fedrevive.core.first_read import FEDREVIVE, NEVER, PHASES, first_read
from fedrevive.core.state_tree import encode
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.draft import Draft, Setting
from fedrevive.settings.loading import load
from fedrevive.settings.section import Section
from fedrevive.settings.sections import section_field
from fedrevive.settings.validation import validated

SMALL = {
    "freeze_versions": 2,
    "warmup_versions": 5,
    "teacher_capacity": 3,
    "generate_every_versions": 1,
    "probe_samples": 8,
    "synthesis_batch": 8,
    "latent_size": 4,
    "generator_width": 4,
    "distill_steps": 2,
    "distill_batch": 4,
    "distill_lr": 1e-3,
    "beta.half_staleness": 2.0,
}
ADAPTIVE = {path: value for path, value in SMALL.items() if path != "beta.half_staleness"}
COMMON = {"warmup_versions": 5, "teacher_capacity": 3, "distill_steps": 2, "distill_batch": 4}
EAGER = {**ADAPTIVE, "beta.family": "constant", "beta.value": 0.6}
"""Every upload is revived, fresh or stale: what may be read is read."""
BASES = {
    "fedrevive": EAGER,
    "cosine": SMALL,
    "late-freeze": {**EAGER, "freeze_versions": 8, "distill_steps": 0},
    "teacher_mean": {**SMALL, "reviver.kind": "teacher_mean"},
    "server_ema": {**SMALL, "reviver.kind": "server_ema"},
    "convex": {**EAGER, "reptile.kind": "convex"},
    "noise": {**EAGER, "pool": "noise"},
    "texts": {**EAGER, "prompt_vectors": 2},
    "small-pool": {**EAGER, "pool_capacity": 4},
    "quantile": {**ADAPTIVE, "beta.family": "running_quantile", "beta.window": 3, "beta.quantile": 0.8},
    "dd_fedrevive": {**COMMON, "name": "dd_fedrevive"},
    "afl_dw": {"name": "afl_dw", "warmup_versions": 5, "beta.half_staleness": 2.0},
}
FAMILIES = {
    "one_minus_cosine": {"half_staleness": 4.0},
    "exponential": {"rate": 0.3},
    "linear": {"slope": 0.3},
    "stepwise": {"thresholds": [1, 2, 3, 4], "horizon": 5.0},
    "polynomial": {"exponent": 1.0, "horizon": 7.0},
    "sigmoid": {"midpoint": 2.0, "slope": 0.7},
    "running_quantile": {"quantile": 0.9, "window": 2},
    "variance_driven": {"deviations": 3.0, "window": 3},
    "constant": {"value": 0.3},
}
CHANGES: list[tuple[str, str, object]] = [
    ("fedrevive", "generate_every_versions", 3),
    ("fedrevive", "labels", "uniform"),
    ("fedrevive", "pool", "noise"),
    ("fedrevive", "pool", "real"),
    ("noise", "pool", "generator"),
    ("fedrevive", "pool_capacity", 9),
    ("fedrevive", "synthesis_steps", 4),
    ("fedrevive", "synthesis_batch", 16),
    ("fedrevive", "generator_lr", 0.1),
    ("fedrevive", "latent_lr", 0.5),
    ("fedrevive", "latent_size", 8),
    ("fedrevive", "generator_width", 8),
    ("fedrevive", "embedding_weight", 3.0),
    ("fedrevive", "generator_file", "generator.safetensors"),
    ("texts", "text_start", "random"),
    ("texts", "prompt_vectors", 1),
    ("texts", "pool", "noise"),
    ("fedrevive", "weights.onehot", 0.0),
    ("fedrevive", "weights.feature_stats", 5.0),
    ("fedrevive", "weights.adversarial", 50.0),
    ("fedrevive", "reptile.kind", "convex"),
    ("convex", "reptile.weight", 0.9),
    *(("cosine", "beta.family", family) for family in FAMILIES if family != "one_minus_cosine"),
    ("quantile", "beta.quantile", 0.1),
    ("quantile", "beta.window", 10),
    ("quantile", "beta.family", "variance_driven"),
    *((base, "beta.half_staleness", 4.0) for base in ("cosine", "afl_dw", "teacher_mean", "server_ema")),
    *((base, "teacher_capacity", 1) for base in ("fedrevive", "late-freeze", "teacher_mean")),
    *(
        (base, path, value)
        for base in ("fedrevive", "late-freeze")
        for path, value in (
            ("probe_floor", 0.4),
            ("class_weights", False),
            ("augmentation", "crop_flip"),
            ("diagnostics", True),
        )
    ),
    ("late-freeze", "beta.value", 0.2),
    ("late-freeze", "distill_steps", 1),
    ("late-freeze", "pool", "noise"),
    ("late-freeze", "pool", "real"),
    ("teacher_mean", "reviver.pull", 0.2),
    ("server_ema", "reviver.pull", 0.2),
    ("dd_fedrevive", "teacher_capacity", 1),
    ("dd_fedrevive", "beta.value", 0.2),
    ("dd_fedrevive", "beta.family", "running_quantile"),
    ("dd_fedrevive", "proportions", "uniform"),
    ("dd_fedrevive", "augmentation", "crop_flip"),
    *(
        (base, path, value)
        for base in ("fedrevive", "dd_fedrevive")
        for path, value in (
            ("distill_steps", 4),
            ("distill_batch", 8),
            ("distill_optimizer", "sgd"),
            ("distill_lr", 0.01),
            ("distill_weight_decay", 0.5),
            ("distill_temperature", 4.0),
            ("loss_guard", False),
        )
    ),
    ("fedrevive", "distill_augmentation", "crop_flip"),
    ("small-pool", "remember_answers", True),
    ("afl_dw", "beta.family", "variance_driven"),
]
ALIKE = {"loss_guard"}
"""Changes nothing as long as no loss is out of bounds."""
ARRIVALS = 12


def leaves(model: type[Section], prefix: str = "") -> set[str]:
    """Dotted paths of all fields, those of every kind of a section included."""
    found = set()
    for name in model.model_fields:
        section = section_field(model, name)
        kinds = section.kinds.values() if section else ()
        found |= {leaf for kind in kinds for leaf in leaves(kind, f"{prefix}{name}.")} or {prefix + name}
    return found


def fields_of(algorithm: str) -> set[str]:
    section = section_field(ExperimentConfig, "algorithm")
    assert section is not None
    return leaves(section.kinds[algorithm])


def experiment(base: str, changes: dict[str, object], updates: int) -> ExperimentConfig:
    draft = Draft({"server": {"concurrency": 4, "lr": 0.5, "updates_per_version": updates}})
    draft.apply([Setting("stop.arrivals", ARRIVALS * updates)])
    for layer in (BASES[base], changes):
        draft.apply([Setting(f"algorithm.{path}", value) for path, value in layer.items()])
    return validated(draft.complete(), {}, ExperimentConfig)


def changed(path: str, value: object) -> dict[str, object]:
    if path != "beta.family":
        return {path: value}
    options = {f"beta.{name}": option for name, option in FAMILIES[str(value)].items()}
    return {path: value} | {name: o for name, o in options.items() if "thresholds" not in name}


def encoded(state) -> tuple[str, dict[str, bytes]]:
    structure, arrays = encode(state)
    return json.dumps(structure), {name: array.tobytes() for name, array in arrays.items()}


@pytest.fixture(scope="module")
def known() -> dict:
    """Runs of the bases, by name and updates per version."""
    return {}


@pytest.mark.parametrize("updates", [1, 2])
@pytest.mark.parametrize(("base", "path", "value"), CHANGES, ids=str)
def test_runs_agree_until_the_first_read(base, path, value, updates, drive, known, context_of, infos) -> None:
    info = infos["texts" if base == "texts" else "images"]

    def run(config):
        return drive(config.algorithm, arrivals=ARRIVALS * updates, updates=updates, info=info)

    config, other = experiment(base, {}, updates), experiment(base, changed(path, value), updates)
    if (base, updates) not in known:
        known[base, updates] = run(config)
    steps, others = known[base, updates], run(other)
    shared = first_read(config, [f"algorithm.{path}"])
    assert shared == first_read(other, [f"algorithm.{path}"])
    assert 0 < shared < len(steps)
    assert [info for _, info in steps[:shared]] == [info for _, info in others[:shared]]
    staleness = [info.staleness for _, info in steps[:shared]]
    context = context_of(settings=other.algorithm, info=info)
    taken_over = forked_state(other, context, steps[shared - 1][0], staleness)
    assert encoded(taken_over) == encoded(others[shared - 1][0])
    differs = any(
        left != right or encoded(a.model) != encoded(b.model)
        for (a, left), (b, right) in zip(steps, others, strict=True)
    )
    assert differs == (path not in ALIKE)


@pytest.mark.parametrize("algorithm", PHASES)
def test_every_setting_is_classified_and_tried(algorithm) -> None:
    table = PHASES[algorithm]
    known = fields_of(algorithm)
    assert {path for path in known if path not in table and path.partition(".")[0] not in table} == set()
    assert {path for path in table if not any(f"{field}.".startswith(f"{path}.") for field in known)} == set()
    bases = [base for base, settings in BASES.items() if settings.get("name", "fedrevive") == algorithm]
    tried = {path for base, path, _ in CHANGES if base in bases}
    late = {path for path, phase in table.items() if phase != "start"}
    assert {path for path in late if not any(f"{one}.".startswith(f"{path}.") for one in tried)} == set()


def test_every_family_is_tried() -> None:
    assert {path.partition(".")[2] for path in fields_of("fedrevive") if path.startswith("beta.")} == {
        "family",
        *(name for values in FAMILIES.values() for name in values),
    }


def test_the_earliest_setting_decides() -> None:
    config = load("digits", ["algorithm.freeze_versions=7", "algorithm.warmup_versions=9"])
    assert first_read(config, []) == NEVER
    assert first_read(config, ["name", "compute.workers", "snapshots.every_seconds"]) == NEVER
    assert first_read(config, ["algorithm.distill_lr"]) == 10
    assert first_read(config, ["algorithm.weights.adversarial"]) == 9
    assert first_read(config, ["algorithm.distill_lr", "algorithm.beta.rate"]) == 7
    assert first_read(config, ["algorithm.distill_lr", "server.lr"]) == 0
    assert first_read(config, ["algorithm.weights"]) == 0
    assert first_read(config, ["algorithm.no_such_field"]) == 0
    assert first_read(load("digits", ["algorithm.name=fedbuff"]), ["algorithm.staleness_weight.family"]) == 0
    assert first_read(load("digits", ["algorithm.freeze_versions=0"]), ["algorithm.pool"]) == 0


def test_auto_gates_follow_concurrency_and_updates_per_version() -> None:
    config = load("digits", ["server.concurrency=30", "server.updates_per_version=4"])
    assert first_read(config, ["algorithm.pool"]) == 15 * 4
    assert first_read(config, ["algorithm.distill_lr"]) == 31 * 4
    assert FEDREVIVE["freeze_versions"] == FEDREVIVE["warmup_versions"] == "start"
