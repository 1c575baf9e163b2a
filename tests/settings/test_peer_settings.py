"""Combinations of peers and server settings that cannot work are one line; charge_time is an optional section."""

import pytest

from fedrevive.settings.errors import LINE_LIMIT, UserError
from fedrevive.settings.identity import dump_yaml, run_id
from fedrevive.settings.loading import algorithm_names, load

PEERS = ("ca2fl", "fadas", "asyncfeded", "fedfa", "port", "dd_fedrevive")


def test_every_peer_has_its_name():
    assert set(PEERS) < set(algorithm_names())


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["algorithm.name=asyncfeded", "server.updates_per_version=2"],
            "server.updates_per_version: 2 does not fit asyncfeded, which applies every update; use auto or 1",
        ),
        (
            ["algorithm.name=fedfa", "server.updates_per_version=2"],
            "server.updates_per_version: 2 does not fit fedfa, which applies every update; use auto or 1",
        ),
        (
            ["algorithm.name=fedfa", "server.lr=0.5"],
            "server.lr: 0.5 does not fit fedfa, whose model is a mean of client models; set server.lr=1",
        ),
        (["algorithm.name=fedfa", "algorithm.window=0"], "algorithm.window: 0 is not allowed; must be >= 1"),
        (
            ["algorithm.name=fadas", "algorithm.second_decay=1"],
            "algorithm.second_decay: 1 is not allowed; must be < 1.0",
        ),
        (
            ["algorithm.name=fadas", "algorithm.delay_adaptation=paper"],
            "algorithm.delay_adaptation: 'paper' is not allowed; must be one of none, divided, capped",
        ),
        (["algorithm.name=asyncfedd"], "algorithm.name: 'asyncfedd' is not allowed"),
        (["server.charge_time=5"], "server.charge_time: 5 is not a section; set its fields"),
        (["server.charge_time={}"], "server.charge_time.flops_per_unit: missing; it has no default"),
        (["server.charge_time.flops_per_unit=0"], "server.charge_time.flops_per_unit: 0 is not allowed"),
    ],
)
def test_a_combination_that_cannot_work_is_one_line(overrides, expected):
    with pytest.raises(UserError) as caught:
        load("digits", overrides)
    assert str(caught.value).startswith(expected)
    assert len(str(caught.value)) <= LINE_LIMIT


def test_a_charged_server_is_another_experiment_and_null_is_not(tmp_path):
    free = load("digits")
    assert free.server.charge_time is None
    assert run_id(load("digits", ["server.charge_time=null"])) == run_id(free)
    charged = load("digits", ["server.charge_time.flops_per_unit=1e9"])
    assert charged.server.charge_time.flops_per_unit == 1e9
    assert run_id(charged) != run_id(free)
    file = tmp_path / "free.yaml"
    file.write_text(dump_yaml(free))
    assert load(str(file), ["server.charge_time.flops_per_unit=1e9"]) == charged
