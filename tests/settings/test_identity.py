import hashlib
import string
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen, MultipleOf
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from fedrevive.settings import ExperimentConfig
from fedrevive.settings.identity import dump_yaml, run_id
from fedrevive.settings.loading import load
from fedrevive.settings.sections import discriminator, section_field

PLAIN = {"distill_from": "current", "teachers": "recent", "teacher_capacity": 1, "remember_answers": False}
"""Of settings that do not fit every value of the others: what fits all."""


@st.composite
def section_values(draw, model):
    """Raw values for a section, every field given, each within its own bounds."""
    values = {}
    for name, info in model.model_fields.items():
        field = section_field(model, name)
        if field is not None:
            kind = draw(st.sampled_from(sorted(field.kinds)))
            absent = field.optional and draw(st.booleans())
            values[name] = None if absent else draw(section_values(field.kinds[kind]))
        elif name == discriminator(model):
            values[name] = info.default
        elif name == "name":
            values[name] = draw(st.text(string.ascii_letters + string.digits, min_size=1, max_size=8))
        else:
            values[name] = draw(plain_values(info.annotation, info.metadata))
    return values


def plain_values(annotation, metadata):
    if annotation is type(None):
        return st.none()
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if hasattr(annotation, "__metadata__"):
        inner = [
            m
            for extra in annotation.__metadata__
            for m in (extra.metadata if isinstance(extra, FieldInfo) else [extra])
        ]
        return plain_values(get_args(annotation)[0], inner)
    if annotation in (int, float, str, bool):
        return bounded(annotation, metadata)
    if get_origin(annotation) is tuple:
        sizes = {type(m): m for m in metadata}
        items = plain_values(get_args(annotation)[0], [])
        return st.lists(
            items, min_size=sizes[MinLen].min_length, max_size=sizes[MaxLen].max_length, unique=True
        )
    return st.one_of([plain_values(choice, metadata) for choice in get_args(annotation)])


def bounded(kind, metadata):
    limits = {type(m): m for m in metadata}
    if kind is bool:
        return st.booleans()
    if kind is str:
        characters = st.characters(min_codepoint=32, exclude_categories=["Cs"], exclude_characters="\x7f")
        return st.text(characters, min_size=limits[MinLen].min_length if MinLen in limits else 0, max_size=12)
    low = limits[Ge].ge if Ge in limits else limits[Gt].gt
    high = limits[Le].le if Le in limits else limits[Lt].lt
    if kind is int:
        step = limits[MultipleOf].multiple_of if MultipleOf in limits else 1
        return st.integers(-(-low // step), high // step).map(lambda n: n * step)
    return st.floats(low, high, exclude_min=Gt in limits, exclude_max=Lt in limits)


@settings(max_examples=150, deadline=None)
@given(section_values(ExperimentConfig))
def test_a_dumped_configuration_loads_back_equal(tmp_path_factory, values):
    if values["delays"]["kind"] == "trace":
        table = Path(tmp_path_factory.getbasetemp()) / "trace.csv"
        table.write_text("device,step_seconds\n1,0.5\n")
        values["delays"] |= {"path": str(table), "sha256": hashlib.sha256(table.read_bytes()).hexdigest()}
    try:
        config = ExperimentConfig.model_validate(values)
    except ValidationError:
        values["server"] |= {"concurrency": 1, "updates_per_version": "auto", "lr": 1.0}
        values["stop"]["arrivals"] = 7
        values["faults"]["timeout"] = 1.0
        if values["task"]["partition"]["kind"] == "natural":
            values["task"]["partition"] = {"kind": "iid"}
        if values["delays"]["kind"] == "uniform":
            values["delays"]["high"] = 1e6
        texts = values["task"]["name"] in ("newsgroups", "next_token")
        if (values["model"]["name"] in ("text_transformer", "t5_encoder")) != texts:
            values["model"] = {"name": "text_transformer" if texts else "cnn"}
        if texts:
            values["task"]["length"] = 80
        values["client"]["augmentation"] = "none"
        for name in (
            "augmentation",
            "distill_augmentation",
            "generator_file",
            "text_start",
            "prompt_vectors",
        ):
            values["algorithm"].pop(name, None)
        for switch, plain in PLAIN.items():
            if switch in values["algorithm"]:
                values["algorithm"][switch] = plain
        beta = values["algorithm"].get("beta", {})
        if beta.get("thresholds"):
            beta |= {"horizon": "auto", "thresholds": sorted(beta["thresholds"])}
        config = ExperimentConfig.model_validate(values)
    path = Path(tmp_path_factory.getbasetemp()) / "dumped.yaml"
    text = dump_yaml(config)
    assert text.isascii()
    path.write_text(text, encoding="ascii")
    again = load(str(path))
    assert again == config
    assert run_id(again) == run_id(config)


@pytest.mark.parametrize(
    "override",
    [
        "compute.executor=inline",
        "compute.workers=7",
        "output=elsewhere",
        "snapshots.every_seconds=1",
        "seed=0",
    ],
)
def test_what_never_changes_a_result_keeps_the_run_id(override):
    assert run_id(load("digits", [override])) == run_id(load("digits"))


@pytest.mark.parametrize(
    "override",
    ["seed=1", "server.lr=0.11", "compute.client_device=cuda", "evaluation.every_arrivals=11", "name=other"],
)
def test_everything_else_changes_the_run_id(override):
    assert run_id(load("digits", [override])) != run_id(load("digits"))


def test_a_run_id_is_16_hexadecimal_digits_and_ignores_how_a_number_was_written():
    first, second = (run_id(load("digits", [f"client.lr={text}"])) for text in ("1", "1.0"))
    assert first == second
    assert len(first) == 16
    assert set(first) <= set(string.hexdigits.lower())
