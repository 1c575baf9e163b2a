"""The base of every configuration section."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One frozen, strict section: unknown keys, wrong types, NaN and infinity are refused.

    The docstring under each field gives its meaning, unit and range, and says whose choice the default is:
    *paper* (arXiv 2511.00655), *published example* (NVFlare research/fedrevive) or *ours*.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
