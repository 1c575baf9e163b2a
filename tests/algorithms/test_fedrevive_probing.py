"""The class-proportion proxy in a run: which noise answers which upload of which client."""

from __future__ import annotations

import pytest
import torch

from fedrevive.algorithms import build_algorithm
from fedrevive.core.messages import ClientUpdate, ModelSnapshot
from fedrevive.core.seeds import Purpose, torch_generator
from fedrevive.core.teachers import probe
from fedrevive.settings.fedrevive import FedReviveSettings

SETTINGS = FedReviveSettings(
    freeze_versions=50, warmup_versions=60, probe_samples=8, generator_width=4, latent_size=4
)


def proportions_after(config_of, context, uploads: list[tuple[int, object]]) -> list[dict]:
    """After each upload (client, model): by client, the sum of its probes and their number."""
    algorithm = build_algorithm(config_of(SETTINGS), context)
    state, history = algorithm.init(), []
    base = ModelSnapshot(0, context.initial_model.numpy())
    for job, (client, model) in enumerate(uploads):
        state, _ = algorithm.apply(state, base, ClientUpdate(client, job, model, 1, 0.0))
        log = state.memory.proportions
        clients = log.clients.tolist()
        last = dict(zip(clients, log.totals.clone(), strict=True))
        history.append({client: (last[client], clients.count(client)) for client in last})
    return history


def answer(context, model, client: int, nth: int) -> torch.Tensor:
    """The slow form: the model's mean softmax on the noise of (client, its n-th probe)."""
    flat = context.new_model()
    flat.load(torch.from_numpy(model))
    flat.module.eval()
    random = torch_generator(context.seed, Purpose.PROBE, client=client, nth=nth)
    noise = torch.randn((8, *context.input_shape), generator=random)
    return probe(flat, noise, SETTINGS.probe_temperature)


@pytest.fixture
def uploaded(context_of, update_of):
    """One and the same client model for all uploads, so that only the noise can differ."""
    context = context_of()
    base = ModelSnapshot(0, context.initial_model.numpy())
    return context, update_of(base, context, 0, 5).model.copy()


def test_the_second_probe_of_a_client_uses_other_noise(config_of, uploaded) -> None:
    context, model = uploaded
    history = proportions_after(config_of, context, [(2, model), (2, model), (2, model)])
    first, second = answer(context, model, 2, 0), answer(context, model, 2, 1)
    assert not torch.allclose(first, second, atol=1e-6)
    (one, uploads_one), (two, uploads_two), (three, uploads_three) = (known[2] for known in history)
    assert (uploads_one, uploads_two, uploads_three) == (1, 2, 2)
    torch.testing.assert_close(one, first)
    torch.testing.assert_close(two, first + second)
    assert torch.equal(three, two)


def test_two_clients_are_probed_with_different_noise_whatever_their_order(config_of, uploaded) -> None:
    context, model = uploaded
    forth = proportions_after(config_of, context, [(1, model), (4, model), (1, model)])[-1]
    back = proportions_after(config_of, context, [(1, model), (1, model), (4, model)])[-1]
    assert not torch.allclose(answer(context, model, 1, 0), answer(context, model, 4, 0), atol=1e-6)
    torch.testing.assert_close(forth[4][0], answer(context, model, 4, 0))
    assert all(torch.equal(forth[client][0], back[client][0]) for client in (1, 4))
