"""Search files: what is accepted, and the one line that every mistake gets before anything starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from fedrevive.settings.errors import UserError
from fedrevive_tuning.definition import from_document, read_search, search_names
from fedrevive_tuning.spaces import corner_points, grid_points, parameters, space_size
from fedrevive_tuning.validation import check_search

CONDITIONAL = """
    algorithm.beta.family:
      choice:
        one_minus_cosine: {algorithm.beta.half_staleness: {loguniform: [5, 60]}}
        polynomial:
          algorithm.beta.exponent: {quniform: [1, 3, 0.5]}
          algorithm.beta.horizon: {choice: [10, auto]}
        stepwise: {algorithm.beta.horizon: {uniform: [10, 50]}}
        constant:
"""


def search_file(
    folder: Path, space: str = "    server.lr: {loguniform: [0.01, 1]}", more: str = "trials: 3"
) -> str:
    path = folder / "my.yaml"
    lines = "".join(f"  {line}\n" for line in more.splitlines())
    path.write_text(
        f"experiment: digits\noverrides: {{stop.arrivals: 30}}\nsearch:\n{lines}  space:\n{space}\n"
    )
    return str(path)


def refusal(source: str) -> str:
    with pytest.raises(UserError) as caught:
        check_search(read_search(source))
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("name", search_names())
def test_every_shipped_search_is_valid(name):
    search = read_search(name)
    assert check_search(search).keys() == {parameter.path for parameter in parameters(search.space)}


def test_the_digits_search_covers_capacity_period_and_families():
    columns = check_search(read_search("digits"))
    assert columns["algorithm.teacher_capacity"] == "int64"
    assert columns["algorithm.generate_every_versions"] == "int64"
    assert columns["algorithm.beta.family"] == "string"


def test_columns_follow_the_fields_and_not_how_values_are_written(tmp_path):
    columns = check_search(
        read_search(search_file(tmp_path, CONDITIONAL + "    server.lr: {choice: [1, 0.5]}"))
    )
    assert columns == {
        "algorithm.beta.family": "string",
        "algorithm.beta.half_staleness": "float64",
        "algorithm.beta.exponent": "float64",
        "algorithm.beta.horizon": "string",  # numbers in one family, auto or a number in another
        "server.lr": "float64",
    }


def test_a_document_gives_the_search_back(tmp_path):
    search = read_search(search_file(tmp_path, CONDITIONAL))
    again = from_document(search.document())
    assert (again.settings, again.space, again.identity()) == (
        search.settings,
        search.space,
        search.identity(),
    )
    assert again.config({}, 3) == search.config({}, 3)


def test_identity_follows_trials_seeds_and_space(tmp_path):
    search = read_search(search_file(tmp_path))
    others = [
        search.with_options(trials=4, seeds=None),
        search.with_options(trials=None, seeds=(1,)),
        read_search(search_file(tmp_path, "    server.lr: {loguniform: [0.01, 0.9]}")),
    ]
    assert len({search.identity(), *(other.identity() for other in others)}) == 4
    assert search.with_options(trials=3, seeds=(0,)).identity() == search.identity()


def test_trials_run_inline_unless_the_search_names_an_executor(tmp_path):
    search = read_search(search_file(tmp_path))
    assert search.config({}, 0).compute.executor == "inline"
    path = tmp_path / "my.yaml"
    path.write_text(path.read_text().replace("overrides: {", "overrides: {compute.executor: ray, "))
    assert read_search(str(path)).config({}, 0).compute.executor == "ray"


def test_an_experiment_file_is_found_beside_the_search_file(tmp_path):
    path = Path(search_file(tmp_path))
    path.write_text(path.read_text().replace("experiment: digits", "experiment: sub/exp.yaml"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "exp.yaml").write_text("name: mine\nstop: {arrivals: 10}\n")
    assert read_search(str(path)).config({}, 0).name == "mine"


def test_corners_try_every_end_of_every_branch(tmp_path):
    space = read_search(search_file(tmp_path, CONDITIONAL)).space
    points = list(corner_points(space))
    assert {point["algorithm.beta.family"] for point in points} == {
        "one_minus_cosine", "polynomial", "stepwise", "constant"
    }  # fmt: skip
    assert {point.get("algorithm.beta.half_staleness") for point in points} == {None, 5.0, 60.0}
    assert {p["algorithm.beta.exponent"] for p in points if p["algorithm.beta.family"] == "polynomial"} == {
        1.0,
        3.0,
    }
    assert space_size(space) is None


def test_a_grid_enumerates_exactly(tmp_path):
    space = """
    server.lr: {grid: [0.1, 0.2]}
    algorithm.beta.family:
      grid:
        constant: {algorithm.beta.value: {grid: [0.5, 0.75, 1.0]}}
        linear: {}
"""
    search = read_search(search_file(tmp_path, space, "searcher: grid"))
    check_search(search)
    family, value = "algorithm.beta.family", "algorithm.beta.value"
    assert list(grid_points(search.space)) == [
        {"server.lr": lr, **rest}
        for lr in (0.1, 0.2)
        for rest in (*({family: "constant", value: v} for v in (0.5, 0.75, 1.0)), {family: "linear"})
    ]
    assert space_size(search.space) == 8


SPACES = {
    "    server.lrr: {uniform: [0.1, 1]}": "server.lrr: unknown field; did you mean 'lr'? (line 6 of",
    "    server.lr: {uniform: [0.1, 1000]}": "server.lr: 1000.0 is not allowed; must be <= 100.0 (line 6 of",
    "    server.lr: {uniform: [-1, 1]}": "server.lr: -1.0 is not allowed; must be > 0",
    "    algorithm.teacher_capacity: {uniform: [2, 8]}": "algorithm.teacher_capacity: 2.0 is not an integer",
    "    server.lr: {choice: []}": "search.space.server.lr: choice has 0 values",
    "    server.lr: {choice: [0.1, 0.1]}": "search.space.server.lr: choice names a value twice",
    "    server.lr: {choice: 3}": "search.space.server.lr: choice takes a list of values",
    "    server.lr: {choice: [{a: 1}]}": "search.space.server.lr: choice has a mapping in its list",
    "    server.lr: {choice: [0.1, 500]}": "server.lr: 500 is not allowed",
    "    server.lr: {uniform: [1, 1]}": "search.space.server.lr: uniform has low=1.0 and high=1.0; low must be smaller",
    "    server.lr: {uniform: [2, 1]}": "low must be smaller",
    "    server.lr: {uniform: [1]}": "search.space.server.lr: uniform takes [low, high], numbers",
    "    server.lr: {uniform: [0.1, x]}": "uniform takes [low, high], numbers",
    "    server.lr: {uniform: [0.1, true]}": "uniform takes [low, high], numbers",
    "    server.lr: {loguniform: [0, 1]}": "a logarithm needs low > 0",
    "    server.lr: {loguniforn: [0.1, 1]}": "no distribution is called 'loguniforn'; did you mean 'loguniform'?",
    "    server.lr: {quniform: [0.1, 1, 0.4]}": "low and high must be multiples of a step > 0",
    "    server.lr: {quniform: [0.1, 1]}": "quniform takes [low, high, step], numbers",
    "    server.lr: {quniform: [0, 1, 0]}": "quniform has step=0",
    "    algorithm.teacher_capacity: {randint: [1, 2.5]}": "randint takes integers",
    "    server.lr: 0.1": "search.space.server.lr: 0.1 is not a distribution; write one of choice, grid, uniform",
    "    server.lr: {uniform: [0.1, 1], choice: [1]}": "search.space.server.lr: a mapping is not a distribution",
    "    server: {lr: {uniform: [0.1, 1]}}": "search.space.server: no distribution is called 'lr'",
    "    server.lr: {grid: [0.1, 1]}": "grid belongs to searcher grid; random draws from a choice",
    "    seed: {choice: [1, 2]}": "search.space.seed: cannot be searched; search.seeds gives the seeds",
    "    compute.workers: {choice: [1, 2]}": "search.space.compute.workers: cannot be searched",
    "    server: {choice: [1]}": "server: 1 is not a section",
    "    server.concurrency: {choice: [20, 500]}": "server.concurrency: 500 exceeds task.clients=100",
    "    server.lr: {choice: [0.1, 0.2]}": "3, but the space has only 2 configurations",
    "    algorithm.beta.family: {choice: [linear, lineer]}": "must be one of one_minus_cosine",
    "    algorithm.beta.family: {choice: {linear: {algorithm.beta.value: {uniform: [0, 1]}}}}":
        "algorithm.beta.value: not a field of algorithm.beta.family=linear; constant has it (line 6 of",
    "    algorithm.beta.family: {choice: {linear: {server.lr: {uniform: [0.1, 1]}}}}\n"
    "    server.lr: {uniform: [0.1, 1]}": "server.lr: searched already where this applies",
    "    algorithm.beta.family: {choice: {linear: 3}}": "3 is not a mapping of dotted paths",
    "    {}": "search.space: has 0 values; needs at least 1",
}  # fmt: skip


@pytest.mark.parametrize("space", SPACES)
def test_a_space_that_no_trial_could_use_is_refused(tmp_path, space):
    assert SPACES[space] in refusal(search_file(tmp_path, space))


SETTINGS = {
    "": "search.trials: missing; random needs a number of trials",
    "trials: 0": "search.trials: 0 is not allowed; must be >= 1 (line 4 of",
    "trials: 100000": "search.trials: 100000 is not allowed; must be <= 10000",
    "trials: many": "search.trials: 'many' is not an integer",
    "trials: 3\nseeds: []": "search.seeds: has 0 values; needs at least 1",
    "trials: 3\nseeds: [1, 1]": "search.seeds: names a seed twice (line 5 of",
    "trials: 3\nseeds: [-1]": "search.seeds: -1 is not allowed; must be >= 0",
    "trials: 3\nsearcher: tpe": "search.searcher: 'tpe' is not allowed; must be one of random, grid, optuna",
    "trials: 3\nobjective: accuracy": "search.objective: 'accuracy' is not allowed",
    "trials: 3\nobjective: time_to_target": "time_to_target needs a target; set evaluation.target_accuracy",
    "trials: 3\nschedular: {kind: asha}": "search.schedular: unknown field; did you mean 'scheduler'?",
    "trials: 3\nscheduler: {kind: asha}": "search.scheduler.grace: missing; it has no default",
    "trials: 3\nscheduler: {kind: asha, grace: 0}": "search.scheduler.grace: 0 is not allowed",
    "trials: 3\nscheduler: {kind: asha, grace: 1, brakets: 1}": "search.scheduler.brakets: unknown field",
    "trials: 3\nscheduler: {kind: asah, grace: 1}": "search.scheduler.kind: 'asah' is not allowed;",
    "trials: 3\nscheduler: asha": "search.scheduler: 'asha' is not a section; set search.scheduler.kind",
    "searcher: grid": "search.space.server.lr: searcher grid cannot enumerate loguniform; list the values",
}


@pytest.mark.parametrize("more", SETTINGS)
def test_settings_that_mean_nothing_are_refused(tmp_path, more):
    assert SETTINGS[more] in refusal(search_file(tmp_path, more=more))


def test_a_grid_counts_its_trials_itself(tmp_path):
    space = "    server.lr: {grid: [0.1, 0.2]}"
    assert "5, but the grid has 2 combinations" in refusal(
        search_file(tmp_path, space, "searcher: grid\ntrials: 5")
    )


FILES = {
    "search: {space: {server.lr: {uniform: [0.1, 1]}}, trials: 1}": "experiment: missing or not a text",
    "experiment: digitz\nsearch: {}": "'digitz': no such preset",
    "experiment: no/such.yaml\nsearch: {}": "no such file",
    "experiment: digits": "search: missing or not a mapping; it needs at least space",
    "experiment: digits\nsearch: {trials: 3}": "search.space: missing; it has no default",
    "experiment: digits\nserach: {}": "serach: unknown field; did you mean 'search'? (line 2 of",
    "experiment: digits\noverrides: 3\nsearch: {}": "overrides: 3 is not a mapping of dotted paths (line 2 of",
    "experiment: digits\noverrides: {seed: 1}\nsearch: {}": "overrides.seed: search.seeds gives the seeds",
    "experiment: digits\noverrides: {server.lrr: 1}\nsearch: {trials: 1, space: {server.lr: {choice: [1]}}}":
        "server.lrr: unknown field; did you mean 'lr'? (line 2 of",
    "experiment: digits\noverrides: {stop.arrivals: null, stop.target_accuracy: 0.9}\nsearch:\n"
    "  {trials: 1, scheduler: {kind: asha, grace: 1}, space: {server.lr: {choice: [1]}}}":
        "stop: scheduler asha needs the end of a run",
    "experiment: !!python/name:os.system x": "the tag",
    "- 1": "is not a mapping",
}  # fmt: skip


@pytest.mark.parametrize("text", FILES)
def test_files_that_are_no_search_are_refused(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    assert FILES[text] in refusal(str(tmp_path / "bad.yaml"))


def test_an_unknown_shipped_search_names_the_nearest():
    assert refusal("digit") == (
        "'digit': no such search (a file has a slash or ends in .yaml); did you mean 'digits'?"
    )


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("fedrevive_tuning.validation.find_spec", lambda name: None)
    line = refusal(search_file(tmp_path, more="trials: 3\nsearcher: optuna"))
    assert "pip install 'fedrevive[search]'" in line


def test_checking_a_search_imports_neither_torch_nor_ray():
    program = (
        "import sys; from fedrevive_tuning.definition import read_search; "
        "from fedrevive_tuning.validation import check_search; check_search(read_search('digits')); "
        "import fedrevive_tuning.table; print([m for m in ('torch', 'ray', 'sklearn', 'optuna') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_command_refuses_before_anything_is_made(tmp_path):
    source = search_file(tmp_path, "    server.lrr: {uniform: [0.1, 1]}")
    words = [sys.executable, "-m", "fedrevive", "tune", source, "--output", "out"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "did you mean 'lr'?" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["my.yaml"]


def test_an_unknown_section_in_a_branch_has_its_line(tmp_path):
    text = "experiment: digits\nsearch:\n  trials: 2\n  space:\n    algorithm.beta.family:\n      choice:\n"
    (tmp_path / "s.yaml").write_text(
        f"{text}        linear: {{algoritm.beta.slope: {{uniform: [0.1, 1]}}}}\n"
    )
    with pytest.raises(UserError, match=r"algoritm: unknown field.*line 7 of"):
        check_search(read_search(str(tmp_path / "s.yaml")))
