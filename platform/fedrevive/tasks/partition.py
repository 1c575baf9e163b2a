"""How the training samples are spread over the clients, vectorised over clients.

The Dirichlet rule is the published example's (NVFlare research/fedrevive), except that a class list that ends starts
over in its order instead of being shuffled again with its tail skipped: so all its samples are used equally often.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedrevive.core.seeds import Purpose, numpy_generator
from fedrevive.settings.errors import UserError
from fedrevive.settings.task import DirichletPartition, NaturalPartition, Partition
from fedrevive.tasks.federated import NONE


def partition(
    settings: Partition,
    labels: NDArray[np.int64],
    clients: int,
    samples_per_client: int,
    seed: int,
    owners: NDArray[np.int64] | None = None,
) -> NDArray[np.int32]:
    """Indices into `labels` that each client holds, [clients, samples_per_client].

    Clients overlap once `clients * samples_per_client` exceeds the samples there are; in a natural partition they
    never do, and a row ends with NONE where a person has fewer samples. Dirichlet rows are ordered by class; local
    training shuffles.

    Args:
        settings: IID, Dirichlet or natural.
        labels: class of every training sample, [n], n >= 1.
        clients: number of clients.
        samples_per_client: samples of each, in a natural partition at most.
        seed: the experiment's seed.
        owners: whose each sample is, [n]; None where nobody knows.

    Raises:
        UserError: more clients than owners.
    """
    rng = numpy_generator(seed, Purpose.PARTITION)
    if isinstance(settings, NaturalPartition):
        assert owners is not None, "the settings allow it only where owners are known"
        return by_owner(owners, clients, samples_per_client, rng)
    if isinstance(settings, DirichletPartition):
        present = np.unique(labels)
        proportions = dirichlet_proportions(settings.alpha, clients, len(present), rng)
        counts = class_counts(proportions, samples_per_client, rng)
        lists = [rng.permutation(np.flatnonzero(labels == label)) for label in present]
        return deal(counts, lists)
    shuffled = rng.permutation(len(labels)).astype(np.int32)
    return np.resize(shuffled, (clients, samples_per_client))


def by_owner(
    owners: NDArray[np.int64], clients: int, most: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    """One owner per client, drawn without replacement, with all its samples or `most` of them drawn at random.

    Returns:
        [clients, samples], as wide as the largest client; NONE after a client's last sample.

    Raises:
        UserError: more clients than owners.
    """
    order = rng.permutation(len(owners))
    order = order[np.argsort(owners[order], kind="stable")]  # by owner, shuffled within
    _, first, counts = np.unique(owners[order], return_index=True, return_counts=True)
    if clients > len(first):
        raise UserError(
            f"task.clients: {clients} is more than the {len(first)} people the training part is from; lower it"
        )
    chosen = rng.permutation(len(first))[:clients]
    held = np.minimum(counts[chosen], most)
    position = np.arange(held.max())
    indices = np.full((clients, len(position)), NONE, np.int32)
    filled = position < held[:, None]
    indices[filled] = order[(first[chosen][:, None] + position)[filled]]
    return indices


def dirichlet_proportions(
    alpha: float, clients: int, classes: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Rows p ~ Dirichlet(α·1), [clients, classes].

    Gamma variates of a small shape underflow to zero together, and 0/0 is no proportion. In logarithms they do
    not: Gamma(α) = Gamma(α + 1)·U^(1/α) (Marsaglia and Tsang 2000, doi:10.1145/358407.358414).
    """
    size = (clients, classes)
    log_gamma = np.log(rng.standard_gamma(alpha + 1.0, size)) + np.log1p(-rng.random(size)) / alpha
    weights = np.exp(log_gamma - log_gamma.max(axis=1, keepdims=True))
    proportions: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return proportions


def class_counts(
    proportions: NDArray[np.float64], samples: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Whole samples of each class, [clients, classes], every row summing to `samples` (published example).

    Rounded to the nearest; what a row lacks goes to one random class, what it has too much is taken one by one
    from the class that is largest at that moment.
    """
    clients, classes = proportions.shape
    counts = np.rint(samples * proportions).astype(np.int64)
    lacking = samples - counts.sum(axis=1)  # [clients]
    counts[np.arange(clients), rng.integers(classes, size=clients)] += np.maximum(lacking, 0)
    for taken in range(
        -int(lacking.min(initial=0))
    ):  # at most classes / 2 passes: rounding adds <= 1/2 per class
        rows = np.flatnonzero(lacking < -taken)
        counts[rows, counts[rows].argmax(axis=1)] -= 1
    return counts


def deal(counts: NDArray[np.int64], lists: list[NDArray[np.int64]]) -> NDArray[np.int32]:
    """Deal class lists to the clients in turn, each list starting over when it ends.

    Args:
        counts: samples of each class for each client, [clients, classes]; all rows have the same sum.
        lists: the shuffled samples of each class, none empty.

    Returns:
        [clients, samples], ordered by class within a client.
    """
    clients, _ = counts.shape
    sizes = np.array([len(entries) for entries in lists])
    first = np.cumsum(sizes) - sizes  # start of each class in the joined lists
    dealt_before = np.cumsum(counts, axis=0) - counts  # [clients, classes]
    runs = counts.ravel()
    within_run = np.arange(runs.sum()) - np.repeat(np.cumsum(runs) - runs, runs)
    position = np.repeat((dealt_before % sizes).ravel(), runs) + within_run
    position %= np.repeat(np.tile(sizes, clients), runs)
    position += np.repeat(np.tile(first, clients), runs)
    dealt: NDArray[np.int32] = np.concatenate(lists).astype(np.int32)[position].reshape(clients, -1)
    return dealt
