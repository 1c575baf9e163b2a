"""A list of malformed inputs for every command that reads a configuration: one seed, one list."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache

from bad_lines import bad_lines
from bad_values import bad_texts
from broken_files import broken_file
from contradictions import contradiction
from field_walk import Field, Level, fields, levels
from verdict import Case

from fedrevive.settings import ExperimentConfig
from fedrevive.settings.study import StudySettings
from fedrevive_tuning.definition import SearchSettings

Maker = Callable[[random.Random], Case]
Pair = tuple[Field, str]


def malformed(seed: int, count: int) -> list[Case]:
    """`count` different cases; the list of a seed never changes while the settings stay as they are."""
    draw = random.Random(seed)
    makers: list[tuple[Maker, int]] = [
        (_experiment_value, 40),
        (_search_value, 6),
        (_study_value, 4),
        (_unknown_key, 14),
        (contradiction, 12),
        (broken_file, 20),
        (bad_lines, 10),
    ]
    weights = [weight for _, weight in makers]
    found: dict[tuple[object, ...], Case] = {}
    while len(found) < count:
        (maker,) = draw.choices([maker for maker, _ in makers], weights)
        case = maker(draw)
        found.setdefault((case.words, case.files), case)
    return list(found.values())


def experiment_fields() -> tuple[Field, ...]:
    """Every plain field of an experiment."""
    return _fields(ExperimentConfig)


@cache
def _fields(model: type) -> tuple[Field, ...]:
    return tuple(fields(model))


@cache
def _texts(model: type) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(dict.fromkeys(bad_texts(field.path, field.schema))) for field in _fields(model))


@cache
def _levels(model: type) -> tuple[Level, ...]:
    return tuple(levels(model))


def _pair(model: type, draw: random.Random) -> Pair:
    position = draw.randrange(len(_fields(model)))
    return _fields(model)[position], draw.choice(_texts(model)[position])


def _experiment_value(draw: random.Random) -> Case:
    field, text = _pair(ExperimentConfig, draw)
    return _placed(draw, field.path, text, field.needs, "value")


def _placed(
    draw: random.Random, path: str, text: str, needs: tuple[tuple[str, str], ...], family: str
) -> Case:
    """A bad setting in one of the places where a setting can stand."""
    plain = not set(text) & set(" ,:/{}[]\"'") and text
    roads = [_override, _nested_file, _dotted_variant, _search_override, _search_choice]
    roads += [_study_words, _competitor] if plain else []
    return draw.choice(roads)(path, text, needs, family)


def _names(path: str) -> tuple[str, ...]:
    """The field, or the section it stands in together with its own name, or a section that holds it."""
    parents, _, leaf = path.rpartition(".")
    return (path, f"{parents} & {leaf}")


def _given(needs: tuple[tuple[str, str], ...]) -> list[str]:
    return [f"{path}={kind}" for path, kind in needs]


def _override(path: str, text: str, needs: tuple[tuple[str, str], ...], family: str) -> Case:
    words = ("run", "stop.arrivals=3", *_given(needs), f"{path}={text}")
    return Case(f"{family}: override", words, _names(path))


def _nested_file(path: str, text: str, needs: tuple[tuple[str, str], ...], family: str) -> Case:
    content = nested({"stop.arrivals": "3", **dict(needs), path: text})
    return Case(f"{family}: file", ("run", "cfg.yaml"), (*_names(path), "cfg.yaml"), (("cfg.yaml", content),))


def _dotted_variant(path: str, text: str, needs: tuple[tuple[str, str], ...], family: str) -> Case:
    chosen = dict(needs)
    algorithm = chosen.pop("algorithm.name", "fedbuff")
    listed = "".join(f"    {name}: {value}\n" for name, value in {**chosen, path: text}.items())
    content = (
        f"stop: {{arrivals: 3}}\nalgorithm: {{name: {algorithm}}}\nper_algorithm:\n  {algorithm}:\n{listed}"
    )
    files = (("cfg.yaml", content.encode(errors="surrogateescape")),)
    return Case(f"{family}: per_algorithm", ("run", "cfg.yaml"), (*_names(path), "cfg.yaml"), files)


def _search_override(path: str, text: str, needs: tuple[tuple[str, str], ...], family: str) -> Case:
    listed = "".join(f"  {n}: {v}\n" for n, v in {"stop.arrivals": "3", **dict(needs), path: text}.items())
    space = "{client.local_steps: {choice: [1, 2]}}"
    content = f"experiment: digits\noverrides:\n{listed}search: {{trials: 1, space: {space}}}\n"
    return Case(
        f"{family}: search overrides",
        ("tune", "s.yaml"),
        (*_names(path), "s.yaml"),
        (("s.yaml", content.encode()),),
    )


_FITTING = {
    ("task.name", "newsgroups"): {"model.name": "text_transformer"},
    ("task.name", "next_token"): {"model.name": "text_transformer"},
    ("model.name", "text_transformer"): {"task.name": "newsgroups"},
    ("model.name", "t5_encoder"): {"task.name": "newsgroups", "model.folder": "t5"},
    ("task.partition.kind", "natural"): {"task.name": "mnist_writers", "model.name": "cnn"},
    ("delays.kind", "trace"): {"delays.path": "devices.csv"},
}
"""What else must be chosen with a kind for the experiment that a search varies to be legal."""


def _search_choice(path: str, text: str, needs: tuple[tuple[str, str], ...], family: str) -> Case:
    fitting = {n: v for need in needs for n, v in _FITTING.get(need, {}).items()}
    listed = "".join(f"  {n}: {v}\n" for n, v in {"stop.arrivals": "3", **dict(needs), **fitting}.items())
    space = f"  space:\n    {path}: {{choice: [{text}]}}\n"
    content = f"experiment: digits\noverrides:\n{listed}search:\n  trials: 1\n{space}"
    return Case(
        f"{family}: search space",
        ("tune", "s.yaml"),
        (*_names(path), "s.yaml"),
        (("s.yaml", content.encode()), ("devices.csv", b"device,step_seconds\n1,0.5\n")),
    )


def _study_words(path: str, text: str, needs: tuple[tuple[str, str], ...], family: str) -> Case:
    words = " ".join(["stop.arrivals=3", *_given(needs), f"{path}={text}"])
    algorithm = dict(needs).get("algorithm.name", "fedbuff")
    content = f"name: s\nsettings:\n  one: {words}\nalgorithms: [{algorithm}]\nseeds: [0]\n"
    return Case(
        f"{family}: study",
        ("study", "s.yaml"),
        (*_names(path), "algorithms", "s.yaml"),
        (("s.yaml", content.encode()),),
    )


def _competitor(path: str, text: str, needs: tuple[tuple[str, str], ...], family: str) -> Case:
    chosen = dict(needs)
    label = ":".join(
        [chosen.pop("algorithm.name", "fedbuff"), *_given(tuple(chosen.items())), f"{path}={text}"]
    )
    words = ("compare", "stop.arrivals=3", "--seeds", "0", "--algorithms", label)
    return Case(f"{family}: compare", words, (*_names(path), "--algorithms"))


def _search_value(draw: random.Random) -> Case:
    field, text = _pair(SearchSettings, draw)
    needs = {f"search.{path}": kind for path, kind in field.needs}
    path = f"search.{field.path}"
    if "search.scheduler.kind" in needs and needs["search.scheduler.kind"] == "asha":
        needs["search.scheduler.grace"] = "1"
    content = nested({**_BASES["tune"], **needs, path: text})
    return Case("value: search", ("tune", "s.yaml"), (*_names(path), "s.yaml"), (("s.yaml", content),))


def _study_value(draw: random.Random) -> Case:
    field, text = _pair(StudySettings, draw)
    content = nested({**_BASES["study"], field.path: text})
    return Case("value: study", ("study", "s.yaml"), (field.path, "s.yaml"), (("s.yaml", content),))


def _unknown_key(draw: random.Random) -> Case:
    model, start = draw.choices(
        [(ExperimentConfig, ""), (SearchSettings, "search."), (StudySettings, "")], [8, 1, 1]
    )[0]
    level = draw.choice(_levels(model))
    known = draw.choice(level.names)
    wrong = misspelt(known, draw)
    while wrong in level.names:
        wrong = misspelt(known, draw)
    path = f"{level.path}.{wrong}".lstrip(".")
    text = draw.choice(["1", "auto", "{a: 1}", "[1]", "null", "true"])
    if model is ExperimentConfig:
        return _placed(draw, path, text, level.needs, "unknown key")
    command = "tune" if start else "study"
    needs = {f"{start}{at}": kind for at, kind in level.needs}
    content = nested({**_BASES[command], **needs, f"{start}{path}": text})
    return Case(f"unknown key: {command}", (command, "s.yaml"), (f"{start}{path}",), (("s.yaml", content),))


_BASES = {
    "tune": {
        "experiment": "digits",
        "search.trials": "2",
        "search.space": "{server.lr: {choice: [0.1, 0.2]}}",
    },
    "study": {"name": "s", "settings": "{a: digits}", "algorithms": "[fedbuff]", "seeds": "[0]"},
}


def misspelt(word: str, draw: random.Random) -> str:
    """A word with one slip of the keyboard."""
    at = draw.randrange(len(word))
    letter = draw.choice("abcdefghijklmnopqrstuvwxyz_")
    return draw.choice(
        [
            word[:at] + word[at + 1 :] or letter,
            word[:at] + letter + word[at:],
            word[:at] + word[at:][1:2] + word[at : at + 1] + word[at + 2 :],
            word.upper(),
            f"{word}s",
            f"x{word}",
        ]
    )


def nested(settings: dict[str, str]) -> bytes:
    """Block YAML of dotted paths; the texts stand as they are."""
    tree: dict[str, object] = {}
    for path, text in settings.items():
        *parents, leaf = path.split(".")
        values = tree
        for parent in parents:
            inner = values.get(parent)
            if not isinstance(inner, dict):
                inner = values[parent] = {}
            values = inner
        values[leaf] = text
    return "".join(f"{line}\n" for line in _lines(tree, "")).encode()


def _lines(tree: dict[str, object], indent: str) -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{name}: {value}"
