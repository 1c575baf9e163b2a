"""Settings that are legal one by one and contradict each other."""

from __future__ import annotations

import random
from collections.abc import Callable

from verdict import Case

Draw = random.Random
BUFFERED = ("fedbuff", "ca2fl", "fadas", "port", "fedrevive", "afl_dw", "dd_fedrevive")
EVERY_UPDATE = ("fedasync", "asyncfeded", "fedfa")
BETAS = ("fedrevive", "afl_dw", "dd_fedrevive")


def contradiction(draw: Draw) -> Case:
    """One of them, with numbers that differ from time to time, in a file or on the command line."""
    if draw.random() < 0.35:
        return draw.choice(_SEARCHES)(draw)
    overrides, names = draw.choice(_EXPERIMENTS)(draw)
    if not any(override.startswith("stop.") for override in overrides):
        overrides = ["stop.arrivals=3", *overrides]
    draw.shuffle(overrides)
    return Case("contradiction: experiment", ("run", *overrides), names)


Contradicting = tuple[list[str], tuple[str, ...]]


def _more_slots_than_clients(draw: Draw) -> Contradicting:
    clients = draw.randint(1, 500)
    algorithm = draw.choice(["fedavg", *BUFFERED, *EVERY_UPDATE])
    rate = ["server.lr=1"] if algorithm == "fedfa" else []
    capacity = ["algorithm.teacher_capacity=1"] if algorithm in ("fedrevive", "dd_fedrevive") else []
    slots = clients + draw.choice([1, 2, 100])
    given = [f"task.clients={clients}", f"server.concurrency={slots}", f"algorithm.name={algorithm}"]
    return given + rate + capacity, ("server.concurrency & task.clients",)


def _more_teachers_than_clients(draw: Draw) -> Contradicting:
    clients = draw.randint(1, 100)
    teachers = clients + draw.choice([1, 2, 100])
    given = [f"task.clients={clients}", f"server.concurrency={draw.randint(1, clients)}"]
    algorithm = draw.choice(["fedrevive", "dd_fedrevive"])
    given += [f"algorithm.name={algorithm}", f"algorithm.teacher_capacity={teachers}"]
    return given, ("algorithm.teacher_capacity & task.clients",)


def _larger_buffer_than_slots(draw: Draw) -> Contradicting:
    slots = draw.randint(1, 90)
    buffer = slots + draw.choice([1, 2, 1000])
    given = [f"algorithm.name={draw.choice(BUFFERED)}", f"server.concurrency={slots}"]
    return [*given, f"server.updates_per_version={buffer}"], (
        "server.updates_per_version & server.concurrency",
    )


def _cohort_is_not_the_buffer(draw: Draw) -> Contradicting:
    slots = draw.randint(2, 90)
    buffer = draw.choice([slots - 1, slots + 1])
    given = ["algorithm.name=fedavg", f"server.concurrency={slots}", f"server.updates_per_version={buffer}"]
    return given, ("server.updates_per_version & server.concurrency",)


def _buffer_without_a_use(draw: Draw) -> Contradicting:
    algorithm = draw.choice(EVERY_UPDATE)
    rate = ["server.lr=1"] if algorithm == "fedfa" else []
    given = [f"algorithm.name={algorithm}", f"server.updates_per_version={draw.randint(2, 20)}", *rate]
    return given, ("server.updates_per_version",)


def _rate_does_not_fit(draw: Draw) -> Contradicting:
    algorithm, low = draw.choice([("fedasync", 1.01), ("fedfa", 1.01)])
    return [f"algorithm.name={algorithm}", f"server.lr={draw.uniform(low, 90)!r}"], (
        f"server.lr & {algorithm}",
    )


def _ends_before_it_begins(draw: Draw) -> Contradicting:
    low = draw.uniform(1, 1e5)
    high = low * draw.uniform(0.01, 0.99)
    return [f"delays={{kind: uniform, low: {low!r}, high: {high!r}}}"], ("delays & high & low",)


def _thresholds_out_of_order(draw: Draw) -> Contradicting:
    values = sorted({draw.uniform(0.1, 100) for _ in range(4)}, reverse=True)
    at = f"algorithm.name={draw.choice(BETAS)}"
    given = [at, "algorithm.beta.family=stepwise", f"algorithm.beta.thresholds={values}"]
    return given, ("algorithm.beta & thresholds",)


def _horizon_given_twice(draw: Draw) -> Contradicting:
    given = ["algorithm.beta.family=stepwise", "algorithm.beta.thresholds=[1, 2, 3, 4]"]
    given += [f"algorithm.name={draw.choice(BETAS)}", f"algorithm.beta.horizon={draw.uniform(1, 90)!r}"]
    return given, ("algorithm.beta & horizon & thresholds",)


def _control_without_distillation(draw: Draw) -> Contradicting:
    switch = draw.choice(["distill_from=stepped", "teachers=random_weights"])
    kind = draw.choice(["server_ema", "teacher_mean"])
    given = [f"algorithm.{switch}", f"algorithm.reviver.kind={kind}", f"seed={draw.randint(0, 999)}"]
    return given, ("algorithm & reviver.kind",)


def _lost_for_ever(draw: Draw) -> Contradicting:
    what, how = draw.choice(["dropout", "crash"]), draw.choice(["jobs", "clients"])
    return [f"faults.{what}.{how}={draw.uniform(0.01, 1)!r}"], ("faults & timeout",)


def _never_ends(draw: Draw) -> Contradicting:
    given = [f"stop.{draw.choice(['arrivals', 'virtual_time', 'target_accuracy'])}=null"]
    return [*given, f"seed={draw.randint(0, 10**6)}"], ("stop",)


def _kind_without_the_field(draw: Draw) -> Contradicting:
    pairs = [
        ("delays.kind=constant", f"delays.sigma={draw.random()!r}"),
        ("delays.kind=uniform", f"delays.mean={draw.random()!r}"),
        ("algorithm.name=fedbuff", f"algorithm.teacher_capacity={draw.randint(1, 99)}"),
        ("algorithm.name=fedbuff", f"algorithm.beta.value={draw.random()!r}"),
        ("algorithm.beta.family=linear", f"algorithm.beta.value={draw.random()!r}"),
        ("task.partition.kind=iid", f"task.partition.alpha={draw.random()!r}"),
        ("delays.kind=constant", f"delays.path=t{draw.randint(0, 99)}.csv"),
        ("algorithm.reptile.kind=adam", f"algorithm.reptile.weight={draw.random()!r}"),
        ("task.name=digits", "task.image_size=14"),
    ]
    chosen, other = draw.choice(pairs)
    path = other.partition("=")[0]
    return [chosen, other], (path, path.rpartition(".")[0])


def _images_meet_texts(draw: Draw) -> Contradicting:
    texts = [f"task.name={draw.choice(['newsgroups', 'next_token'])}", "model.name=text_transformer"]
    choices: list[Contradicting] = [
        (["task.name=newsgroups", "model.name=cnn"], ("model.name & task.name=newsgroups",)),
        (["task.name=digits", "model.name=text_transformer"], ("model.name & task.name=digits",)),
        ([*texts, "client.augmentation=crop_flip"], ("client.augmentation",)),
        ([*texts, "algorithm.augmentation=crop_flip"], ("algorithm.augmentation",)),
        ([*texts, "algorithm.generator_file=generator.safetensors"], ("algorithm.generator_file",)),
        (
            [*texts, "task.length=8", "algorithm.prompt_vectors=8"],
            ("algorithm.prompt_vectors & task.length",),
        ),
        (["algorithm.text_start=snippets"], ("algorithm.text_start & task.name",)),
    ]
    given, names = draw.choice(choices)
    return [*given, f"seed={draw.randint(0, 10**6)}"], names


_EXPERIMENTS: tuple[Callable[[Draw], Contradicting], ...] = (
    *(_more_slots_than_clients, _more_teachers_than_clients, _larger_buffer_than_slots, _cohort_is_not_the_buffer),
    *(_buffer_without_a_use, _rate_does_not_fit, _ends_before_it_begins, _thresholds_out_of_order),
    *(_horizon_given_twice, _control_without_distillation, _lost_for_ever, _never_ends, _kind_without_the_field),
    _images_meet_texts,
)  # fmt: skip


def _searching(space: str, more: str = "", overrides: str = "stop.arrivals: 3", *names: str) -> Case:
    text = f"experiment: digits\noverrides: {{{overrides}}}\nsearch:\n{more}  space:\n{space}\n"
    return Case("contradiction: search", ("tune", "s.yaml"), names, (("s.yaml", text.encode()),))


def _range_reversed(draw: Draw) -> Case:
    kind = draw.choice(["uniform", "loguniform", "randint", "lograndint"])
    low = draw.randint(1, 50)
    path = "algorithm.teacher_capacity" if "int" in kind else "server.lr"
    values = f"[{low}, {draw.randint(0, low)}]"
    return _searching(
        f"    {path}: {{{kind}: {values}}}", "  trials: 2\n", "stop.arrivals: 3", f"{path} & {kind}"
    )


def _step_that_does_not_divide(draw: Draw) -> Case:
    step = draw.choice([0, -1, 0.7, 1.3])
    space = f"    server.lr: {{quniform: [1, {draw.randint(2, 9)}, {step}]}}"
    return _searching(space, "  trials: 2\n", "stop.arrivals: 3", "server.lr & step")


def _too_few_configurations(draw: Draw) -> Case:
    values = draw.sample(range(1, 50), draw.randint(1, 5))
    space = f"    client.local_steps: {{choice: {values}}}"
    return _searching(
        space, f"  trials: {len(values) + draw.randint(1, 9)}\n", "stop.arrivals: 3", "search.trials"
    )


def _grid_with_a_range(draw: Draw) -> Case:
    space = f"    server.lr: {{uniform: [{draw.uniform(0.01, 0.1)!r}, 1]}}"
    return _searching(space, "  searcher: grid\n", "stop.arrivals: 3", "server.lr & grid")


def _corner_out_of_bounds(draw: Draw) -> Case:
    path, values = draw.choice(
        [
            ("server.lr", "[0.1, 500]"),
            ("server.concurrency", f"[5, {draw.randint(101, 999)}]"),
            ("algorithm.teacher_capacity", f"[2, {draw.randint(101, 999)}]"),
            ("server.updates_per_version", f"[1, {draw.randint(21, 999)}]"),
            ("algorithm.beta.value", "[0.5]"),
            ("algorithm.beta.family", "[constant, constants]"),
        ]
    )
    return _searching(f"    {path}: {{choice: {values}}}", "  trials: 1\n", "stop.arrivals: 3", path)


def _seed_twice(draw: Draw) -> Case:
    seed = draw.randint(0, 10**9)
    space = "    client.local_steps: {choice: [1, 2]}"
    return _searching(space, f"  trials: 1\n  seeds: [{seed}, {seed}]\n", "stop.arrivals: 3", "search.seeds")


def _target_is_missing(draw: Draw) -> Case:
    space = f"    client.local_steps: {{choice: [1, {draw.randint(2, 900)}]}}"
    more = "  trials: 1\n  objective: time_to_target\n"
    return _searching(space, more, "stop.arrivals: 3", "search.objective & target")


def _end_is_unknown(draw: Draw) -> Case:
    space = f"    client.local_steps: {{choice: [1, {draw.randint(2, 900)}]}}"
    more = f"  trials: 1\n  scheduler: {{kind: asha, grace: {draw.uniform(1, 9)!r}}}\n"
    return _searching(space, more, "stop.arrivals: null, stop.target_accuracy: 0.9", "stop")


def _searched_twice(draw: Draw) -> Case:
    inner = f"{{linear: {{server.lr: {{uniform: [0.1, {draw.uniform(0.2, 1)!r}]}}}}}}"
    space = f"    algorithm.beta.family: {{choice: {inner}}}\n    server.lr: {{uniform: [0.1, 1]}}"
    return _searching(space, "  trials: 1\n", "stop.arrivals: 3", "server.lr & already")


_SEARCHES: tuple[Callable[[Draw], Case], ...] = (
    *(_range_reversed, _step_that_does_not_divide, _too_few_configurations, _grid_with_a_range),
    *(_corner_out_of_bounds, _seed_twice, _target_is_missing, _end_is_unknown, _searched_twice),
)
