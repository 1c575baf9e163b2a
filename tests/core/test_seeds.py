"""The fast streams against numpy's own Philox, one scalar at a time."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrevive.core.seeds import Purpose, derived_seed, normal, philox, torch_generator, uniform

ids = st.integers(0, 2**40)


def slow_philox(seed: int, purpose: int, client: int, nth: int, block: int) -> list[int]:
    counter = nth + (client << 64) + (block << 128) - 1  # numpy increments the counter before the first word
    key = np.array([seed, purpose], dtype=np.uint64)
    return np.random.Philox(counter=counter % 2**256, key=key).random_raw(4).tolist()


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**63 - 1),
    st.sampled_from(list(Purpose)),
    st.lists(ids, min_size=1, max_size=5),
    ids,
    st.integers(0, 3),
)
def test_vectorised_equals_numpy(seed, purpose, clients, nth, block):
    words = philox(seed, purpose, clients, nth, block)
    expected = [slow_philox(seed, purpose, client, nth, block) for client in clients]
    assert words.tolist() == expected


def test_broadcasts_clients_and_jobs():
    grid = philox(3, Purpose.UPLOAD, np.arange(4)[None, :], np.arange(3)[:, None])
    assert grid.shape == (3, 4, 4)
    assert (grid[2, 1] == philox(3, Purpose.UPLOAD, 1, 2)).all()


def test_streams_differ_by_every_key():
    base = derived_seed(1, Purpose.PROBE, 2, 3)
    others = [
        derived_seed(2, Purpose.PROBE, 2, 3),
        derived_seed(1, Purpose.SYNTHESIS, 2, 3),
        derived_seed(1, Purpose.PROBE, 3, 3),
        derived_seed(1, Purpose.PROBE, 2, 4),
    ]
    assert base not in others
    assert len(set(others)) == 4


def test_uniform_and_normal_have_their_moments():
    words = philox(0, Purpose.DOWNLOAD, np.arange(200_000), 0)
    u, z = uniform(words[:, 0]), normal(words[:, :2])
    assert u.min() > 0
    assert u.max() < 1
    np.testing.assert_allclose([u.mean(), u.var(), z.mean(), z.var()], [0.5, 1 / 12, 0, 1], atol=0.01)


def test_torch_generator_leaves_the_global_one_alone():
    before = torch.random.get_rng_state()
    first = torch.rand(3, generator=torch_generator(5, Purpose.PROBE))
    assert torch.equal(first, torch.rand(3, generator=torch_generator(5, Purpose.PROBE)))
    assert torch.equal(before, torch.random.get_rng_state())
