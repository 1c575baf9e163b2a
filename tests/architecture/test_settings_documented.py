import re

from fedrevive.settings import ExperimentConfig
from fedrevive.settings.section import Section
from fedrevive.settings.sections import discriminator, section_field


def sections(model: type[Section]) -> set[type[Section]]:
    found = {model}
    for name in model.model_fields:
        field = section_field(model, name)
        for kind in field.kinds.values() if field else ():
            found |= sections(kind)
    return found


def test_every_section_and_field_says_what_it_is():
    known = sections(ExperimentConfig)
    assert len(known) > 20
    assert [model.__name__ for model in known if not model.__doc__] == []
    silent = [
        f"{m.__name__}.{name}" for m in known for name, info in m.model_fields.items() if not info.description
    ]
    assert silent == []


def test_every_field_of_an_algorithm_says_whose_choice_it_is():
    """`as in fedrevive` sends the reader elsewhere, and an authority that is not named cannot be checked."""
    known = set().union(*map(sections, section_field(ExperimentConfig, "algorithm").kinds.values()))
    assert len(known) > 20
    whose = re.compile(r"\b(paper|published example|ours)\b", re.IGNORECASE)
    silent = [
        f"{model.__name__}.{name}: {info.description}"
        for model in known
        for name, info in model.model_fields.items()
        if name != discriminator(model) and not whose.search(info.description)
    ]
    assert silent == []


def test_every_section_is_strict_and_frozen():
    loose = [
        model.__name__
        for model in sections(ExperimentConfig)
        if not (model.model_config["strict"] and model.model_config["frozen"])
        or model.model_config["extra"] != "forbid"
    ]
    assert loose == []
