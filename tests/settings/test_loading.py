import pytest

from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import UserError
from fedrevive.settings.loading import (
    algorithm_names,
    grid,
    load,
    preset_names,
    split_words,
    variant,
    with_compute,
)


@pytest.fixture
def config_file(tmp_path):
    def write(text: str | bytes) -> str:
        path = tmp_path / "cfg.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("algorithm", algorithm_names())
def test_every_preset_loads_for_every_algorithm(preset, algorithm):
    config = load(preset, [f"algorithm.name={algorithm}"])
    assert (config.name, config.algorithm.name) == (preset, algorithm)
    assert load(preset).algorithm.name == "fedrevive"


def test_layers_later_wins(config_file):
    source = config_file(
        "stop: {arrivals: 9}\nserver: {lr: 0.2}\nper_algorithm: {fedbuff: {server.lr: 0.05}}\n"
    )
    assert load(source).server.lr == 0.2
    assert load(source, ["algorithm.name=fedbuff"]).server.lr == 0.05
    assert load(source, ["server.lr=0.7", "algorithm.name=fedbuff"]).server.lr == 0.7
    assert load(source, ["seed=1", "seed=2"], {"seed": 3, "output": None}).seed == 3
    empty = config_file("stop: {arrivals: 9}\nper_algorithm:\n  fedbuff: {}\n  fedrevive: {server: {}}\n")
    assert load(empty, ["algorithm.name=fedbuff"]).stop.arrivals == 9
    assert load(empty) == load(None, ["stop.arrivals=9"])
    assert load(None, ["stop.arrivals=5"]) == ExperimentConfig.model_validate({"stop": {"arrivals": 5}})


def test_per_algorithm_follows_the_algorithm_of_the_file(config_file):
    source = config_file(
        "stop: {arrivals: 9}\nalgorithm: {name: fedbuff}\n"
        "per_algorithm:\n  fedbuff:\n    algorithm.staleness_weight.family: hinge\n"
        "    algorithm.staleness_weight: {slope: 3.0}\n"
    )
    weight = load(source).algorithm.staleness_weight
    assert (weight.family, weight.slope) == ("hinge", 3.0)
    assert load(source, ["algorithm.staleness_weight.slope=4"]).algorithm.staleness_weight.slope == 4
    assert load(source, ["algorithm.name=fedasync"]).algorithm.staleness_weight.family == "polynomial"


@pytest.mark.parametrize("order", [1, -1])
def test_a_new_kind_starts_from_its_defaults_in_any_order(order, config_file):
    source = config_file("stop: {arrivals: 9}\ndelays: {kind: pareto, shape: 3.0, mean: 7.0}\n")
    delays = load(source, ["delays.kind=lognormal", "delays.sigma=0.9"][::order]).delays
    assert (delays.kind, delays.sigma, delays.mean) == ("lognormal", 0.9, 1.0)
    nested = ["algorithm.name=afl_dw", "algorithm.beta.family=constant", "algorithm.beta.value=0.75"][::order]
    assert load("digits", nested).algorithm.beta.value == 0.75


def test_the_same_kind_typed_again_keeps_the_file(config_file):
    source = config_file("stop: {arrivals: 9}\ndelays: {kind: pareto, mean: 7.0}\n")
    assert load(source, ["delays.kind=pareto", "delays.shape=2"]).delays.mean == 7.0
    assert load(source, ["delays={kind: pareto, shape: 2}"]).delays.mean == 7.0


def test_a_section_without_its_kind_keeps_the_default_kind(config_file):
    config = load(config_file("task: {clients: 50}\nstop: {virtual_time: 3}\n"))
    assert (config.task.name, config.task.clients, config.stop.virtual_time) == ("digits", 50, 3.0)


def test_null_clears_an_optional_field(config_file):
    config = load("digits", ["stop.arrivals=null", "stop.virtual_time=2"])
    assert (config.stop.arrivals, config.stop.virtual_time) == (None, 2.0)


def test_words_are_told_apart():
    assert split_words(["seed=1", "digits", "task={name: digits}"]) == (
        "digits",
        ["seed=1", "task={name: digits}"],
    )
    assert split_words([]) == (None, [])
    assert split_words(["runs/lr=0.1/cfg.yaml"]) == ("runs/lr=0.1/cfg.yaml", [])
    with pytest.raises(UserError, match="second preset or file"):
        split_words(["digits", "server.lr"])


def test_variants_name_an_algorithm_and_its_overrides():
    assert variant("fedbuff") == ("fedbuff", ())
    name, overrides = variant("fedrevive:teacher_capacity=4:server.lr=0.1:beta={family: constant, value: 1}")
    assert (name, overrides) == (
        "fedrevive",
        ("algorithm.teacher_capacity=4", "server.lr=0.1", "algorithm.beta={family: constant, value: 1}"),
    )
    assert load("digits", [f"algorithm.name={name}", *overrides]).algorithm.beta.value == 1
    for spec in ("fedbuf", "", "fedbuff:", "fedbuff:lr", ":"):
        with pytest.raises(UserError, match="no such algorithm"):
            variant(spec)


def test_the_same_experiment_computed_elsewhere():
    config = load("digits")
    assert with_compute(config.model_dump(mode="json"), {}) == config
    assert with_compute(config.model_dump(mode="json"), {"compute.workers": 2}).compute.workers == 2
    with pytest.raises(UserError, match=r"compute\.executor"):
        with_compute(config.model_dump(mode="json"), {"compute.executor": "rey"})


def test_a_grid_is_every_combination_in_order():
    assert grid(()) == [()]
    assert grid(("server.lr=0.1/0.2", "algorithm.pool=noise")) == [
        ("server.lr=0.1", "algorithm.pool=noise"),
        ("server.lr=0.2", "algorithm.pool=noise"),
    ]
    assert len(grid(("a=1/2/3", "b=4/5"))) == 6
