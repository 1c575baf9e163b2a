"""`task`: which federated problem, how many clients, how the data is split over them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedrevive.settings.section import PathText, Section


class IidPartition(Section):
    """Every client draws its samples uniformly from the whole training part."""

    kind: Literal["iid"] = "iid"
    """Discriminator."""


class DirichletPartition(Section):
    """Class proportions of each client ~ Dirichlet(alpha), fixed samples per client (algorithm.md §1.9)."""

    kind: Literal["dirichlet"] = "dirichlet"
    """Discriminator."""
    alpha: float = Field(0.5, ge=1e-4, le=1e6)
    """Concentration, in [1e-4, 1e6]; smaller is more skewed. Paper: 0.5."""


Partition = Annotated[IidPartition | DirichletPartition, Field(discriminator="kind")]


class FederatedTask(Section):
    """Fields every task shares."""

    clients: int = Field(100, ge=1, le=10_000_000)
    """Number N of clients, >= 1. Ours (paper: 1000)."""
    samples_per_client: int = Field(50, ge=1, le=1_000_000)
    """Training samples each client holds, >= 1; clients overlap when N x samples exceeds the training part. Ours (paper: 350)."""
    partition: Partition = Field(default_factory=DirichletPartition)
    """How classes are spread over clients. Paper: dirichlet."""


class DigitsTask(FederatedTask):
    """scikit-learn's 1,797 real handwritten digits, 1x8x8, 10 classes; ships with the library."""

    name: Literal["digits"] = "digits"
    """Discriminator."""


class DigitsAffineTask(FederatedTask):
    """The same digits under a random affine map on a 1x12x12 canvas: harder, as the plain ones saturate."""

    name: Literal["digits_affine"] = "digits_affine"
    """Discriminator."""


class FashionMnistTask(FederatedTask):
    """Zalando's Fashion-MNIST, 1x28x28, 10 classes, from torchvision's files."""

    name: Literal["fashion_mnist"] = "fashion_mnist"
    """Discriminator."""
    samples_per_client: int = Field(350, ge=1, le=1_000_000)
    """Training samples each client holds, >= 1. Paper: 350."""
    data_dir: PathText = "data"
    """Folder that holds `FashionMNIST/raw/` (torchvision's root). Ours."""
    image_size: Literal[14, 28] = 28
    """Side in pixels; 14 average-pools 2x2, about 4x cheaper. Ours."""


class Cifar10Task(FederatedTask):
    """CIFAR-10, 3x32x32 photographs, 10 classes, from torchvision's files."""

    name: Literal["cifar10"] = "cifar10"
    """Discriminator."""
    samples_per_client: int = Field(350, ge=1, le=1_000_000)
    """Training samples each client holds, >= 1. Paper: 350."""
    data_dir: PathText = "data"
    """Folder that holds `cifar-10-batches-py/` (torchvision's root). Ours."""
    image_size: Literal[16, 32] = 32
    """Side in pixels; 16 average-pools 2x2, about 4x cheaper. Paper: 32."""


TaskSettings = Annotated[
    DigitsTask | DigitsAffineTask | FashionMnistTask | Cifar10Task, Field(discriminator="name")
]
