"""What is known of the server's models while calls of several steps are under way; the server is stood in for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import fedrevive.runtime  # noqa: F401  # before Ray

# isort: split
from fedrevive.runtime import server_steps
from fedrevive.runtime.server_steps import ServerSteps
from fedrevive.runtime.stored import CALL_SECONDS, Batch, Place, Stored, most_per_call
from fedrevive.settings.errors import UserError


class Server:
    """Keeps the calls that were made, as (steps, lists)."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    @property
    def carry_out(self) -> Server:
        return self

    def options(self, num_returns: int) -> Server:
        assert num_returns == 2
        return self

    def remote(self, steps: Any, *batches: Any) -> tuple[str, str]:
        self.calls.append((steps, batches))
        return f"models {len(self.calls)}", f"outcomes {len(self.calls)}"


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    known: dict[str, Any] = {}
    monkeypatch.setattr(server_steps, "fetched", known.__getitem__)
    return known


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def steps(server: Server, results: dict[str, Any]) -> ServerSteps:
    made = ServerSteps(SimpleNamespace(server=server), most=4)  # type: ignore[arg-type]
    while made.most < 4:  # until it is known how cheap steps are
        made.take(THERE, THERE, 0)
        made.send()
        results[made.under_way[0]] = ["done"], 1e-4
        made.collect()
    return made


THERE = Stored(Batch("there"), 0)


def test_cheap_steps_share_a_call_and_name_each_list_once(steps, server):
    before = len(server.calls)
    updates = Batch("updates")
    made = [steps.take(THERE, Stored(updates, row), row)[1] for row in range(3)]
    assert len(server.calls) == before
    made.append(steps.end_cohort()[1])
    (asked, lists) = server.calls[-1]
    assert len(server.calls) == before + 1
    assert [step.update for step in asked] == [Place(1, 0), Place(1, 1), Place(1, 2), None]
    assert lists[0] == "there"
    assert [model.row for model in made] == [0, 1, 2, 3]
    assert len({id(model.batch) for model in made}) == 1
    assert made[0].batch.reference == f"models {len(server.calls)}"


def test_models_before_an_error_are_there_and_nothing_is_sent_after_it(steps, server, results):
    made = [steps.take(THERE, THERE, taken)[1] for taken in range(4)]
    later = [steps.take(THERE, THERE, taken)[1] for taken in range(4, 8)]
    results[steps.under_way[0]] = ["fine", "fine", UserError("diverged")], 1e-3
    steps.collect()
    assert [model.step <= steps.settled for model in made + later] == [True, True] + 6 * [False]
    assert steps.under_way == []
    sent = len(server.calls)
    steps.take(THERE, THERE, 8)
    steps.send()
    assert len(server.calls) == sent


def test_slow_steps_go_one_by_one(steps, server, results):
    for _ in range(8):
        steps.take(THERE, THERE, 0)
        steps.send()
        results[steps.under_way[0]] = ["slow"], 2 * CALL_SECONDS
        steps.collect()
    assert steps.most == 1


@pytest.mark.parametrize(
    ("size", "concurrency", "most"), [(220_000, 20, 16), (6_700_000, 100, 1), (220_000, 1000, 4)]
)
def test_large_models_and_many_clients_share_less(size, concurrency, most):
    assert most_per_call(size, concurrency) == most
