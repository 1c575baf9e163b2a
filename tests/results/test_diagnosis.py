"""The failure signatures, from tables made to show each of them."""

from __future__ import annotations

import math

import pytest

from fedrevive.results.diagnosis import diagnose
from fedrevive.results.schemas import ARRIVALS
from fedrevive.results.tables import table_from_rows

REQUIRED = {
    name: 0 if str(kind) == "int64" else 0.0
    for name, kind in ((field.name, field.type) for field in ARRIVALS if not field.nullable)
}
HEALTHY = {
    "beta": 0.5,
    "staleness": 10,
    "client_delta_norm": 1.0,
    "distilled_delta_norm": 0.4,
    "delta_cosine": 0.1,
    "proportion_entropy": 1.5,
}


def verdicts(*rows: dict, classes: int = 10) -> dict[str, str]:
    return {s.name: s.verdict for s in diagnose(table(*rows), classes)}


def table(*rows: dict):
    return table_from_rows(ARRIVALS, [{**REQUIRED, "sequence": n, **row} for n, row in enumerate(rows)])


def test_a_healthy_run_shows_none() -> None:
    warmup = {"beta": 0.0, "proportion_entropy": 0.0}
    found = diagnose(table(*[warmup] * 50, *[HEALTHY] * 5), 10)
    assert {s.verdict for s in found} == {"absent"}
    assert {s.advice for s in found} == {""}
    suppressed, vanishing, skewed = found
    assert suppressed.numbers == {"mean_kept": 0.5, "share_beta_above_0.9": 0.0, "mean_staleness": 10.0}
    assert vanishing.numbers["median_norm_ratio"] == pytest.approx(0.4)
    assert vanishing.numbers["share_of_stale_updates_without"] == 0
    assert skewed.numbers["share_of_largest_entropy"] == pytest.approx(1.5 / math.log(10))
    assert skewed.numbers["mean_correlation"] is None


@pytest.mark.parametrize(
    ("change", "signature", "advice"),
    [
        ({"beta": 0.8}, "raw_updates_suppressed", "half_staleness"),
        ({"distilled_delta_norm": 0.01}, "distilled_delta_vanishes", "distill_lr"),
        ({"proportion_entropy": 0.1}, "skewed_proxies", "probe_floor"),
        ({"proportion_correlation": 0.1}, "skewed_proxies", "probe_temperature"),
    ],
)
def test_each_failure_is_found_alone_and_has_its_advice(change, signature: str, advice: str) -> None:
    for found in diagnose(table(*[{**HEALTHY, **change}] * 3), 10):
        assert (found.verdict == "present") == (found.name == signature)
        assert (advice in found.advice) == (found.name == signature)


def test_many_updates_at_beta_one_suppress_although_the_mean_is_high() -> None:
    rows = [{**HEALTHY, "beta": 0.0}] * 4 + [{**HEALTHY, "beta": 1.0}] * 6
    assert verdicts({**HEALTHY, "beta": 0.1}, *rows)["raw_updates_suppressed"] == "present"


def test_stale_updates_that_are_mostly_not_distilled_count_as_idle() -> None:
    raw = {**HEALTHY, "beta": 0.0, "distilled_delta_norm": None}
    assert verdicts(HEALTHY, *[raw] * 4)["distilled_delta_vanishes"] == "present"
    fresh = {**raw, "staleness": 0}
    assert verdicts(HEALTHY, *[fresh] * 4)["distilled_delta_vanishes"] == "absent"


def test_what_a_run_cannot_tell_is_said() -> None:
    assert set(verdicts({"staleness": 3}, {"staleness": 4}).values()) == {"not measured"}
    assert set(verdicts().values()) == {"not measured"}
    weighted = verdicts({"beta": 0.95, "staleness": 3})  # afl_dw
    assert weighted == {
        "raw_updates_suppressed": "present",
        "distilled_delta_vanishes": "not measured",
        "skewed_proxies": "not measured",
    }
    stepped = verdicts({**HEALTHY, "beta": None})
    assert stepped["raw_updates_suppressed"] == "not measured"
    assert stepped["distilled_delta_vanishes"] == "absent"
