"""The base of every configuration section."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fedrevive.settings.errors import shown

MAX_PART_BYTES = 255


def _short_parts(path: str) -> str:
    if any(len(part.encode()) > MAX_PART_BYTES for part in path.split("/")):
        raise ValueError(
            f"{shown(path)} has a part of more than {MAX_PART_BYTES} bytes; no file system takes it"
        )
    return path


PathText = Annotated[
    str,
    Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$"),
    AfterValidator(_short_parts),
]
"""A path as a user writes it: without control characters. Whether it exists is asked where it is used."""


class Section(BaseModel):
    """One frozen, strict section: unknown keys, wrong types, NaN and infinity are refused.

    The docstring under each field gives its meaning, unit and range, and says whose choice the default is:
    *paper* (arXiv 2511.00655), *published example* (NVFlare research/fedrevive) or *ours*.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
