"""Draws: reproducible, within their ranges, and never a parameter of a branch that was not chosen."""

from pathlib import Path

import pytest

from fedrevive.settings.errors import UserError
from fedrevive_tuning.definition import Search, read_search
from fedrevive_tuning.sampling import Asker, planned_points
from fedrevive_tuning.validation import check_search

SPACE = """
    algorithm.teacher_capacity: {randint: [2, 8]}
    algorithm.generate_every_versions: {lograndint: [2, 40]}
    server.lr: {loguniform: [0.01, 1]}
    algorithm.pool_capacity: {quniform: [256, 1024, 256]}
    algorithm.distill_lr: {quniform: [0.001, 0.01, 0.001]}
    algorithm.beta.family:
      choice:
        constant: {algorithm.beta.value: {uniform: [0, 1]}}
        polynomial: {algorithm.beta.exponent: {choice: [1, 2.5]}, algorithm.beta.horizon: {uniform: [5, 50]}}
        stepwise: {algorithm.beta.horizon: {uniform: [60, 90]}}
        linear: {}
"""
OWN = {"constant": {"value"}, "polynomial": {"exponent", "horizon"}, "stepwise": {"horizon"}, "linear": set()}


def search_of(folder: Path, searcher: str, space: str = SPACE, trials: int = 60, seed: int = 0) -> Search:
    (folder / "s.yaml").write_text(
        f"experiment: digits\nsearch:\n  searcher: {searcher}\n  trials: {trials}\n  seed: {seed}\n  space:\n{space}\n"
    )
    search = read_search(str(folder / "s.yaml"))
    check_search(search)
    return search


def require_own_parameters_only(points: list[dict]) -> None:
    assert {point["algorithm.beta.family"] for point in points} == set(OWN)
    for point in points:
        set_here = {path.rpartition(".")[2] for path in point if path.startswith("algorithm.beta.")}
        assert set_here == {"family", *OWN[point["algorithm.beta.family"]]}
        horizon = point.get("algorithm.beta.horizon", 0)
        assert (horizon >= 60) == (point["algorithm.beta.family"] == "stepwise")


def require_within(points: list[dict]) -> None:
    assert {point["algorithm.teacher_capacity"] for point in points} == set(range(2, 9))
    assert {type(point["algorithm.teacher_capacity"]) for point in points} == {int}
    assert all(2 <= point["algorithm.generate_every_versions"] <= 40 for point in points)
    assert all(0.01 <= point["server.lr"] <= 1 for point in points)
    assert {point["algorithm.pool_capacity"] for point in points} == {256, 512, 768, 1024}
    assert {point["algorithm.distill_lr"] for point in points} <= {n / 1000 for n in range(1, 11)}


def test_random_draws_stay_in_their_ranges_and_branches(tmp_path):
    points = planned_points(search_of(tmp_path, "random"))
    assert points is not None
    assert len(points) == 60
    require_within(points)
    require_own_parameters_only(points)


def test_random_draws_depend_on_the_seed_alone(tmp_path):
    points = planned_points(search_of(tmp_path, "random"))
    assert points == planned_points(search_of(tmp_path, "random"))
    assert planned_points(search_of(tmp_path, "random", trials=20)) == points[:20]
    assert planned_points(search_of(tmp_path, "random", seed=1)) != points


def test_random_never_draws_a_configuration_twice(tmp_path):
    space = "    algorithm.teacher_capacity: {randint: [1, 4]}\n    server.lr: {choice: [0.1, 0.2, 0.3]}"
    points = planned_points(search_of(tmp_path, "random", space, trials=12))
    assert len({tuple(point.values()) for point in points}) == 12


def test_a_space_that_runs_out_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("fedrevive_tuning.sampling.MOST_DRAWS", 50)
    space = "    algorithm.teacher_capacity: {lograndint: [1, 2]}"
    search = search_of(tmp_path, "random", space, trials=2).with_options(trials=3, seeds=None)
    with pytest.raises(UserError, match="only 2 different configurations"):
        planned_points(search)


def told(search: Search, scores: list[float | None], *, maximise: bool = True) -> list[dict]:
    """All answers when every trial is told before the next one is asked."""
    asker = Asker(search.space, search.settings.seed, maximise=maximise)
    points = []
    for number, score in enumerate(scores):
        points.append(asker.ask())
        asker.tell(number, score)
    return points


def test_optuna_answers_follow_seed_results_and_direction(tmp_path):
    search = search_of(tmp_path, "optuna")
    scores = [None if n % 7 == 3 else n % 5 / 5 for n in range(40)]
    turned = [score and -score for score in scores]
    points = told(search, scores)
    require_own_parameters_only(points)
    assert all(0.01 <= point["server.lr"] <= 1 for point in points)
    assert points == told(search, scores) == told(search, turned, maximise=False)
    assert told(search, turned)[:10] == points[:10]  # before Optuna looks at results
    assert told(search, turned) != points


def test_a_step_of_one_reaches_the_upper_end(tmp_path):
    space = "    algorithm.teacher_capacity: {quniform: [2, 8, 1]}"
    points = planned_points(search_of(tmp_path, "random", space, trials=7)) or []
    assert sorted(point["algorithm.teacher_capacity"] for point in points) == list(range(2, 9))
