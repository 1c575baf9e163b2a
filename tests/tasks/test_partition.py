import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrevive.core.seeds import Purpose, numpy_generator
from fedrevive.settings.errors import UserError
from fedrevive.settings.task import DirichletPartition, IidPartition, NaturalPartition
from fedrevive.tasks.partition import class_counts, deal, dirichlet_proportions, partition

CLASSES = 10
LABELS = numpy_generator(0, Purpose.TASK_DATA).integers(CLASSES, size=1078)

partitions = st.one_of(
    st.just(IidPartition()),
    st.floats(-4, 6).map(lambda exponent: DirichletPartition(alpha=min(max(10.0**exponent, 1e-4), 1e6))),
)


def slow_counts(proportions, samples, favoured):
    rows = []
    for row, lucky in zip(proportions, favoured, strict=True):
        counts = [round(samples * share) for share in row.tolist()]
        while sum(counts) < samples:
            counts[lucky] += 1
        while sum(counts) > samples:
            counts[counts.index(max(counts))] -= 1
        rows.append(counts)
    return np.array(rows)


def slow_deal(counts, lists):
    cursors = [0] * len(lists)
    clients = []
    for row in counts.tolist():
        held = []
        for label, count in enumerate(row):
            for _ in range(count):
                held.append(lists[label][cursors[label] % len(lists[label])])
                cursors[label] += 1
        clients.append(held)
    return np.array(clients)


def heterogeneity(indices, labels=LABELS):
    """Mean total-variation distance between the clients' class shares and the pool's, in [0, 1)."""
    pool = np.bincount(labels, minlength=CLASSES) / len(labels)
    shares = [np.bincount(labels[row], minlength=CLASSES) / len(row) for row in indices]
    return np.abs(np.array(shares) - pool).sum(axis=1).mean() / 2


@given(
    how=partitions,
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    clients=st.integers(1, 20),
    samples=st.integers(1, 80),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=150, deadline=None)
def test_every_client_holds_exactly_its_samples(how, labels, clients, samples, seed):
    indices = partition(how, np.array(labels), clients, samples, seed)
    assert indices.shape == (clients, samples)
    assert indices.dtype == np.int32
    assert indices.flags.c_contiguous
    assert indices.min() >= 0
    assert indices.max() < len(labels)


@given(
    alpha=st.floats(1e-4, 100),
    clients=st.integers(1, 30),
    samples=st.integers(1, 40),
    classes=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_counts_and_dealing_equal_the_loops(alpha, clients, samples, classes, seed):
    rng = numpy_generator(seed, Purpose.PARTITION)
    proportions = dirichlet_proportions(alpha, clients, classes, rng)
    lists = [rng.permutation(5 + 3 * label) + 100 * label for label in range(classes)]
    favoured = numpy_generator(seed, Purpose.PROBE).integers(classes, size=clients)

    counts = class_counts(proportions, samples, numpy_generator(seed, Purpose.PROBE))

    np.testing.assert_array_equal(counts, slow_counts(proportions, samples, favoured))
    assert (counts >= 0).all()
    assert (counts.sum(axis=1) == samples).all()
    np.testing.assert_array_equal(deal(counts, lists), slow_deal(counts, lists))


def test_rounding_gives_a_lack_to_one_class_and_takes_a_surplus_from_the_largest():
    rng = np.random.Generator(np.random.Philox(0))
    lack = class_counts(np.full((500, 3), 1 / 3), 10, rng)
    assert set(map(tuple, np.sort(lack, axis=1).tolist())) == {(3, 3, 4)}
    assert set(lack.argmax(axis=1).tolist()) == {0, 1, 2}
    surplus = class_counts(np.array([[0.26, 0.26, 0.26, 0.22]]), 10, rng)  # rounds to 3, 3, 3, 2
    assert surplus.tolist() == [[2, 3, 3, 2]]


@pytest.mark.parametrize("alpha", [1e-4, 1e-3, 1.0, 1e6])
def test_proportions_are_finite_at_every_concentration(alpha):
    proportions = dirichlet_proportions(alpha, 2000, CLASSES, numpy_generator(3, Purpose.PARTITION))
    assert np.isfinite(proportions).all()
    np.testing.assert_allclose(proportions.sum(axis=1), 1.0, rtol=1e-12)
    # Var p_k = (1/k)(1 - 1/k) / (k·alpha + 1); four standard errors of its estimate are below 20 % here.
    expected = 0.1 * 0.9 / (CLASSES * alpha + 1)
    assert proportions.var(axis=0).mean() == pytest.approx(expected, rel=0.2)


def test_tiny_alpha_gives_every_client_one_class_and_all_classes_a_turn():
    indices = partition(DirichletPartition(alpha=1e-4), LABELS, 300, 50, seed=1)
    classes_held = [np.unique(LABELS[row]) for row in indices]
    # A second share above 1/100 needs two of ten Exp(mean 1e4) within 4.6: about 0.4 % of the clients.
    assert sum(len(held) > 1 for held in classes_held) <= 6
    assert len(np.unique(np.concatenate(classes_held))) == CLASSES


def test_heterogeneity_grows_as_alpha_falls():
    alphas = (100.0, 1.0, 0.3, 0.1, 0.01)
    drawn = [partition(DirichletPartition(alpha=alpha), LABELS, 300, 50, seed=2) for alpha in alphas]
    measured = [heterogeneity(indices) for indices in drawn]
    assert measured == sorted(measured)
    assert measured[0] < 0.1
    assert measured[-1] > 0.8
    # 50 of 1,078 without regard to class: E|share - 0.1| = 0.033 in each of ten classes, halved.
    iid = heterogeneity(partition(IidPartition(), LABELS, 300, 50, seed=2))
    assert iid == pytest.approx(0.165, rel=0.05)


def test_a_hundred_thousand_clients_take_no_loop_over_clients():
    started = time.perf_counter()
    partition(DirichletPartition(alpha=0.3), LABELS, 100_000, 50, seed=0)
    assert time.perf_counter() - started < 5  # 0.1 s here


def test_iid_uses_every_sample_equally_often_and_never_twice_in_a_client():
    indices = partition(IidPartition(), LABELS, 1000, 50, seed=4)
    assert all(len(np.unique(row)) == 50 for row in indices)
    uses = np.bincount(indices.ravel(), minlength=len(LABELS))
    assert uses.max() - uses.min() <= 1
    disjoint = partition(IidPartition(), LABELS, 21, 50, seed=4)
    assert len(np.unique(disjoint)) == 21 * 50


def test_dirichlet_uses_the_samples_of_a_class_equally_often():
    indices = partition(DirichletPartition(alpha=0.3), LABELS, 200, 50, seed=4)
    uses = np.bincount(indices.ravel(), minlength=len(LABELS))
    for label in range(CLASSES):
        of_class = uses[label == LABELS]
        assert of_class.max() - of_class.min() <= 1


def test_absent_classes_get_no_mass():
    labels = np.array([0, 0, 2, 2, 2, 9])
    indices = partition(DirichletPartition(alpha=0.5), labels, 200, 30, seed=5)
    held = np.unique(labels[indices])
    assert held.tolist() == [0, 2, 9]


@pytest.mark.parametrize("how", [IidPartition(), DirichletPartition(alpha=0.3)])
def test_the_seed_decides(how):
    first = partition(how, LABELS, 50, 20, seed=7)
    np.testing.assert_array_equal(first, partition(how, LABELS, 50, 20, seed=7))
    assert (first != partition(how, LABELS, 50, 20, seed=8)).any()


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=60),
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(0, 2**32),
)
def test_a_natural_client_holds_what_one_person_has(people, clients, most, seed):
    owners = np.array(people)
    known, counts = np.unique(owners, return_counts=True)
    deal_out = lambda: partition(NaturalPartition(), np.zeros_like(owners), clients, most, seed, owners)  # noqa: E731
    if clients > len(known):
        with pytest.raises(UserError, match=f"task.clients: {clients} is more than the {len(known)} people"):
            deal_out()
        return
    indices = deal_out()
    assert indices.dtype == np.int32
    np.testing.assert_array_equal(indices, deal_out())
    seen = set()
    for row in indices:
        held = row[row >= 0]
        assert (row[len(held) :] == -1).all()  # the empty places are at the end
        (person,) = set(owners[held].tolist())
        assert len(set(held.tolist())) == len(held) == min(most, counts[known == person][0])
        assert person not in seen
        seen.add(person)


def test_which_people_and_which_of_their_samples_is_drawn_at_random():
    owners = np.repeat(np.arange(50), 40)
    drawn = [partition(NaturalPartition(), owners, 5, 3, seed, owners) for seed in range(40)]
    people = {int(person) for indices in drawn for person in owners[indices[:, 0]]}
    places = {int(place) for indices in drawn for place in (indices % 40).ravel()}
    assert len(people) > 45
    assert places == set(range(40))
