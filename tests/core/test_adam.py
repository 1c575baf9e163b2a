import pytest
import torch

from fedrevive.core.adam import Adam


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.999)])
def test_equals_torch(betas, weight_decay):
    random = torch.Generator().manual_seed(0)
    ours = [torch.randn(7, generator=random), torch.randn(2, 3, generator=random)]
    theirs = [torch.nn.Parameter(tensor.clone()) for tensor in ours]
    groups = [{"params": [theirs[0]], "lr": 0.1}, {"params": [theirs[1]], "lr": 0.01}]
    reference = torch.optim.Adam(groups, betas=betas, weight_decay=weight_decay)
    adam = Adam(ours, [0.1, 0.01], betas, weight_decay)
    for _ in range(20):
        gradients = [torch.randn(tensor.shape, generator=random) for tensor in ours]
        for parameter, gradient in zip(theirs, gradients, strict=True):
            parameter.grad = gradient.clone()
        reference.step()
        adam.step(gradients)
    for mine, parameter in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, parameter.detach(), rtol=1e-6, atol=1e-7)


def test_a_view_moves_its_vector():
    vector = torch.zeros(5)
    Adam([vector[:3]], [0.5]).step([torch.ones(3)])
    torch.testing.assert_close(vector, torch.tensor([-0.5, -0.5, -0.5, 0.0, 0.0]))
