"""Class proportions of all clients: the log, and the index that extends it without copying."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fedrevive.core.probe_log import ProbeIndex, ProbeLog, empty_log
from fedrevive.core.state_tree import decode, encode

CPU = torch.device("cpu")
CLASSES = 3

Slow = dict[int, tuple[Tensor, int]]
"""The obvious form: client -> sum of its probes, and their number."""


def answer(number: int) -> Tensor:
    return torch.softmax(torch.randn(CLASSES, generator=torch.Generator().manual_seed(number)), dim=0)


def grown(clients: list[int]) -> tuple[ProbeIndex, ProbeLog]:
    index, log = ProbeIndex(), empty_log(CLASSES, CPU)
    for number, client in enumerate(clients):
        log = index.appended(log, client, answer(number))
    return index, log


def bits(log: ProbeLog) -> tuple[bytes, bytes]:
    return log.clients.numpy().tobytes(), log.totals.numpy().tobytes()


def test_the_estimate_is_the_mean_of_two_uploads_and_is_looked_up_now() -> None:
    index, log = ProbeIndex(), empty_log(2, CPU)
    log = index.appended(log, 4, torch.tensor([1.0, 0.0]))
    before = index.proportions(log, [4])
    log = index.appended(log, 5, torch.tensor([0.25, 0.75]))
    log = index.appended(log, 4, torch.tensor([0.5, 0.5]))
    assert torch.equal(before, torch.tensor([[1.0, 0.0]]))
    rows = index.proportions(log, [4, 5, 4])
    assert torch.equal(rows, torch.tensor([[0.75, 0.25], [0.25, 0.75], [0.75, 0.25]]))
    assert [index.uploads(log, client) for client in (4, 5, 6)] == [2, 1, 0]
    with pytest.raises(KeyError):
        index.proportions(log, [6])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8)), min_size=1, max_size=160))
def test_any_history_with_branches_is_the_dictionary_it_stands_for(steps: list[tuple[int, int]]) -> None:
    """One index serves logs that branch off each other; none of them ever changes."""
    index = ProbeIndex()
    logs: list[ProbeLog] = [empty_log(CLASSES, CPU)]
    known: list[Slow] = [{}]
    seen = [bits(logs[0])]
    for number, (client, back) in enumerate(steps):
        # mostly the newest log, as a server does; now and then one of the four before it
        parent = max(0, len(logs) - 1 - max(0, back - 4))
        log, slow = logs[parent], known[parent]
        total, uploads = slow.get(client, (torch.zeros(CLASSES), 0))
        assert index.uploads(log, client) == uploads
        logs.append(index.appended(log, client, answer(number)))
        known.append({**slow, client: (total + answer(number), uploads + 1)})
        seen.append(bits(logs[-1]))
        clients = list(known[-1])
        expected = torch.stack([total / uploads for total, uploads in known[-1].values()])
        assert torch.equal(index.proportions(logs[-1], clients), expected)
    assert [bits(log) for log in logs] == seen


def test_a_run_copies_its_log_only_to_double_the_room() -> None:
    index, log = ProbeIndex(), empty_log(CLASSES, CPU)
    places = []
    for number in range(1000):
        log = index.appended(log, number % 700, answer(0))
        places.append(log.totals.untyped_storage())
    assert len({place.data_ptr() for place in places}) == 5  # 64, 128, 256, 512, 1024 rows
    assert places[-1].nbytes() == 1024 * CLASSES * 4


def test_a_saved_log_is_two_arrays_of_its_own_rows_and_goes_on_alike() -> None:
    clients = [3, 1, 3, 70, 1]
    index, log = grown(clients)
    structure, arrays = encode(log)
    assert sorted(array.shape for array in arrays.values()) == [(5,), (5, CLASSES)]
    restored = decode(structure, arrays, (ProbeLog,), CPU)
    expected = index.appended(log, 70, answer(9))
    for same in (restored, copy.deepcopy(log), log):
        for other in (ProbeIndex(), index):
            again = other.appended(same, 70, answer(9))
            assert bits(again) == bits(expected)
            assert torch.equal(other.proportions(again, [70, 1]), index.proportions(expected, [70, 1]))


class NoHostReads(TorchDispatchMode):
    """Refuses what would make the host wait for a device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket not in (torch.ops.aten._local_scalar_dense, torch.ops.aten._to_copy), func
        return func(*args, **(kwargs or {}))


def test_an_arrival_reads_nothing_back_from_the_device() -> None:
    index, log = grown([0, 1, 2] * 21)
    probed = answer(5)
    with NoHostReads():
        for client in (0, 7, 8):  # across a doubling
            log = index.appended(log, client, probed)
            index.proportions(log, [client, 1, 2])
    with pytest.raises(AssertionError), NoHostReads():
        probed[0].item()
