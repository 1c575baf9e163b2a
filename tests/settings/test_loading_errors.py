"""What a user typed wrong: one short ASCII line that names the field, in every way a configuration comes in."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import LINE_LIMIT, PREFIX, UserError
from fedrevive.settings.loading import load


@pytest.fixture
def config_file(tmp_path):
    def write(text: str | bytes) -> str:
        path = tmp_path / "cfg.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write


def complaint(source, overrides=(), flags=None) -> str:
    with pytest.raises(UserError) as caught:
        load(source, overrides, flags)
    line = f"{PREFIX}{caught.value}"
    assert len(line) <= LINE_LIMIT
    assert line.isascii()
    assert line.isprintable()
    assert "Input" not in line
    return str(caught.value)


BAD_OVERRIDES = [
    ("algorithm.teacher_capacity=0", "algorithm.teacher_capacity: 0 is not allowed; must be >= 1"),
    (
        "algorithm.generate_every_versions=0",
        "algorithm.generate_every_versions: 0 is not allowed; must be >= 1",
    ),
    (
        "algorithm.pool=noice",
        "algorithm.pool: 'noice' is not allowed; must be one of generator, noise, real; did",
    ),
    (
        "algorithm.beta.family=sigmod",
        "algorithm.beta.family: 'sigmod' is not allowed; must be one of one_minus_c",
    ),
    (
        "algorithm.beta={family: constant, value: 1.5}",
        "algorithm.beta.value: 1.5 is not allowed; must be <= 1.0",
    ),
    (
        "algorithm.beta={family: stepwise, thresholds: [1, 3, 2, 9]}",
        "algorithm.beta: thresholds=[1.0, 3.0, 2.0, 9.0] are out of order; they must increase",
    ),
    (
        "algorithm.beta={family: stepwise, thresholds: [1, 2, 3]}",
        "algorithm.beta.thresholds: has 3 values; needs at least 4",
    ),
    (
        "algorithm.beta={family: stepwise, thresholds: [1, 2, 3, 4, 5]}",
        "algorithm.beta.thresholds: has 5 values; needs at most 4",
    ),
    (
        "algorithm.beta={family: stepwise, thresholds: [5, 2]}",
        "algorithm.beta.thresholds: has 2 values; needs at least 4",
    ),
    (
        "algorithm.beta={family: stepwise, thresholds: 3}",
        "algorithm.beta.thresholds: 3 is not a list",
    ),
    (
        "algorithm.beta={family: stepwise, thresholds: [0, 1, 2, 3]}",
        "algorithm.beta.thresholds: 0 is not allowed; must be > 0",
    ),
    (
        "algorithm.beta={family: stepwise, thresholds: [1, 2, 3, 4], horizon: 3}",
        "algorithm.beta: horizon=3.0 and thresholds exclude each other",
    ),
    (
        "algorithm.reviver.pull=0.1",
        "algorithm.reviver.pull: not a field of algorithm.reviver.kind=distillation",
    ),
    (
        "algorithm={name: fedrevive, distill_from: stepped, reviver: {kind: server_ema}}",
        "algorithm: distill_from=stepped does not fit reviver.kind=server_ema",
    ),
    (
        "algorithm={name: fedrevive, teachers: random_weights, reviver: {kind: teacher_mean}}",
        "algorithm: teachers=random_weights does not fit reviver.kind=teacher_mean",
    ),
    ("concurrency=3", "concurrency: unknown field; did you mean 'server.concurrency'?"),
    ("lr=0.1", "lr: unknown field; did you mean 'client.lr' or 'server.lr'?"),
    ("server.alpha=0.1", "server.alpha: unknown field; did you mean 'task.partition.alpha'?"),
    (
        "model.teacher_capacity=3",
        "model.teacher_capacity: unknown field; did you mean 'algorithm.teacher_capacity'?",
    ),
    (
        "algorithm.teacher_capacity=101",
        "algorithm.teacher_capacity: 101 exceeds task.clients=100; lower the first or raise the second",
    ),
    (
        "server.updates_per_version=21",
        "server.updates_per_version: 21 exceeds server.concurrency=20, the clients at work; lower the first",
    ),
    ("output='a\x01b'", "output: character 0x0001 is not allowed"),
    ('output="a\\0b"', "output: 'a\\x00b' is not allowed; must be text that matches"),
    (f"output=out/{'x' * 256}", "output: 'out/xxx"),
    (
        'task={name: fashion_mnist, data_dir: "a\\nb"}',
        "task.data_dir: 'a\\nb' is not allowed; must be text that",
    ),
    ("server.concurency=3", "server.concurency: unknown field; did you mean 'concurrency'?"),
    (
        "algorithm.teacher_capicity=3",
        "algorithm.teacher_capicity: unknown field; did you mean 'teacher_capacity'?",
    ),
    ("foo.bar=1", "foo: unknown field; known: name, seed, task"),
    ("server.concurrency=abc", "server.concurrency: 'abc' is not an integer"),
    ("server.concurrency=0", "server.concurrency: 0 is not allowed; must be >= 1"),
    ("server.concurrency=200", "server.concurrency: 200 exceeds task.clients=100"),
    ("server.updates_per_version=x", "server.updates_per_version: 'x' is not an integer or 'auto'"),
    ("server.updates_per_version=0", "server.updates_per_version: 0 is not allowed; must be >= 1 or 'auto'"),
    ("task.clients=3.0", "task.clients: 3.0 is not an integer"),
    ("task.clients='3'", "task.clients: '3' is not an integer; write it without quotes"),
    ("task.clients=true", "task.clients: true is not an integer"),
    ("task.clients=null", "task.clients: null is not an integer"),
    ("task.clients={}", "task.clients: a mapping is not an integer"),
    ("task.clients={a: 1}", "task.clients: a single value; it has no fields below it"),
    ("client.lr=true", "client.lr: true is not a number"),
    ("client.lr=1_000", "client.lr: '1_000' has an underscore"),
    ("client.lr=1:30", "client.lr: '1:30' is a base-60 number"),
    ("client.lr=nan", "client.lr: 'nan' is not a finite number"),
    ("client.lr=-Inf", "client.lr: '-Inf' is not a finite number"),
    ("client.lr='3'", "client.lr: '3' is not a number; write it without quotes"),
    ("client.lr=.nan", "client.lr: '.nan' is not a finite number"),
    ("algorithm.loss_guard=yes", "algorithm.loss_guard: 'yes' is not true or false"),
    (
        "client.optimizer=adem",
        "client.optimizer: 'adem' is not allowed; must be one of adam, sgd; did you mean 'adam'?",
    ),
    ("delays.kind=unifrm", "delays.kind: 'unifrm' is not allowed; must be one of fedrevive_default"),
    ("delays.kind=[1]", "delays.kind: a list is not allowed; must be one of fedrevive_default"),
    ("delays.low=1", "delays.low: not a field of delays.kind=fedrevive_shifted; uniform has it"),
    ("delays={kind: uniform, low: 3}", "delays: high=1.5 is below low=3.0"),
    ("delays=uniform", "delays: 'uniform' is not a section; set delays.kind"),
    ("stop=null", "stop: null is not a section; set its fields, such as stop.arrivals"),
    ("stop.arrivals=null", "stop: no stop condition"),
    ("stop.arrivals=", "stop.arrivals: no value after '='"),
    ("model.name=resnet", "model.name: 'resnet' is not allowed; must be one of cnn"),
    ("model.width=5", "model.width: 5 is not allowed; must be a multiple of 4"),
    ("name=a/b", "name: 'a/b' is not allowed; must be text that matches"),
    ("name=3", "name: 3 is not a text"),
    ("output=\udc80", "output: '\\udc80' is not allowed; must be valid text"),
    ("seed=9223372036854775808", "seed: 9223372036854775808 is not allowed; must be <= 9223372036854775807"),
    (
        "algorithm.beta.value=0.3",
        "algorithm.beta.value: not a field of algorithm.beta.family=one_minus_cosine",
    ),
    ("delays={kind: uniform", "delays: expected ',' or '}'"),
    ("delays={low: 1_0}", "delays: low: '1_0' has an underscore"),
    ("seed", "'seed': not an override; write path=value"),
    ("=3", "'=3': not an override"),
    ("a..b=3", "'a..b=3': not an override"),
    (f"{'x' * 999}=3", "xxx"),
    ("name=\x1b[31mred", "name: '\\x1b[31mred' is not allowed"),
]


@pytest.mark.parametrize(("override", "expected"), BAD_OVERRIDES)
def test_bad_overrides_are_named_in_one_line(override, expected):
    assert complaint("digits", [override]).startswith(expected)


BAD_FILES = [
    (
        "server: {concurrency: 500}\nstop: {arrivals: 3}\n",
        "server.concurrency: 500 exceeds task.clients=100",
        1,
    ),
    ("stop: {arrivals: 3}\nserver:\n  lr: 0\n", "server.lr: 0 is not allowed; must be > 0", 3),
    ("stop: {arrivals: 3}\nsevrer: {}\n", "sevrer: unknown field; did you mean 'server'?", 2),
    ("server.lr: 1\nstop: {arrivals: 3}\n", "server.lr: dotted names belong on the command line", 1),
    ("stop: {arrivals: 3}\ntask: digits\n", "task: 'digits' is not a section; set task.name", 2),
    (
        "stop: {arrivals: 3}\nalgorithm: fedavg\n",
        "algorithm: 'fedavg' is not a section; set algorithm.name",
        2,
    ),
    ("stop: {arrivals: 3}\ndelays: [1]\n", "delays: a list is not a section; set delays.kind", 2),
    ("task: {name: cifar}\n", "task.name: 'cifar' is not allowed; must be one of digits", 1),
    ("stop: {arrivals: 3}\nstop: {arrivals: 4}\n", "stop: given twice; first on line 1", 2),
    ("per_algorithm: 3\n", "per_algorithm: 3 is not a mapping", 1),
    ("per_algorithm:\n  fedbuf: {}\n", "per_algorithm.fedbuf: no such algorithm; known: fedavg", 2),
    ("per_algorithm:\n  fedbuff: 1\n", "per_algorithm.fedbuff: 1 is not a mapping", 2),
    (
        "per_algorithm:\n  fedbuff: {algorithm.name: fedavg}\n",
        "per_algorithm.fedbuff: algorithm.name cannot change",
        2,
    ),
    (
        "per_algorithm:\n  fedrevive:\n    server.lr: -1\nstop: {arrivals: 1}\n",
        "server.lr: -1 is not allowed",
        3,
    ),
]


@pytest.mark.parametrize(("text", "expected", "line"), BAD_FILES)
def test_bad_files_are_named_with_their_line(text, expected, line, config_file):
    source = config_file(text)
    found = complaint(source)
    assert found.startswith(expected)
    assert f"(line {line} of " in found


def test_the_command_line_is_not_blamed_on_the_file(config_file):
    source = config_file("stop: {arrivals: 3}\nserver: {lr: 0.1}\ndelays: {kind: uniform}\n")
    assert "line" not in complaint(source, ["server.lr=-1"])
    assert "line" not in complaint(source, ["delays.kind=x"])
    assert "line" not in complaint(source, ["server.lr.x=1"])
    assert complaint(source, ["server.lr=-1", "seed=-1", "task.clients=0"]).endswith("(+2 more)")


@pytest.mark.parametrize(
    ("source", "expected", "code"),
    [
        ("digts", "'digts': no such preset (a file has a slash or ends in .yaml); did you mean 'digits'?", 2),
        ("zzz", "'zzz': no such preset (a file has a slash or ends in .yaml); known: ", 2),
        ("nowhere/cfg.yaml", "'nowhere/cfg.yaml': no such file", 2),
        ("./", "'.': a folder", 2),
        ("a\0.yaml", "'a\\x00.yaml': not a file name", 2),
        ("n" * 300 + ".yaml", "'nnn", 2),
        (f"{__file__}/x.yaml", "'/", 2),
    ],
)
def test_sources_that_cannot_be_read(source, expected, code):
    assert complaint(source).startswith(expected)
    with pytest.raises(UserError) as caught:
        load(source)
    assert caught.value.exit_code == code


WORDS = [
    "name",
    "kind",
    "family",
    "beta",
    "lr",
    "clients",
    "partition",
    "per_algorithm",
    "fedbuff",
    "server.lr",
]
KEYS = st.sampled_from([*WORDS, "", *ExperimentConfig.model_fields])
LEAVES = st.sampled_from(
    [0, 1, -1, 1.5, True, None, "auto", "uniform", "fedbuff", "constant", "digits", 2**70, "\u00e9"]
)
TREES = st.recursive(
    LEAVES, lambda t: st.dictionaries(KEYS, t, max_size=4) | st.lists(t, max_size=2), max_leaves=12
)


def flow(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{k}": {flow(v)}' for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if not isinstance(value, float)
        else repr(value)
    )


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=5), st.lists(st.tuples(KEYS, KEYS, TREES), max_size=3))
def test_any_tree_of_values_gives_a_configuration_or_a_user_error(tmp_path_factory, tree, typed):
    path = Path(tmp_path_factory.getbasetemp()) / "tree.yaml"
    path.write_text(flow(tree), encoding="utf-8")
    try:
        outcome: object = load(str(path), [f"{a}.{b}={flow(value)}" for a, b, value in typed])
    except UserError as error:
        outcome = f"{PREFIX}{error}"
    assert isinstance(outcome, ExperimentConfig) or len(outcome) <= LINE_LIMIT
