"""`task`: which federated problem, how many clients, how the data is split over them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

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


class NaturalPartition(Section):
    """A client is a person: it holds the training samples of one writer or speaker, who is no other client's."""

    kind: Literal["natural"] = "natural"
    """Discriminator."""


Partition = Annotated[IidPartition | DirichletPartition | NaturalPartition, Field(discriminator="kind")]


class FederatedTask(Section):
    """Fields every task shares."""

    has_owners: ClassVar[bool] = False
    """Whether the data says whose each sample is, so that it can be partitioned by person."""

    clients: int = Field(100, ge=1, le=10_000_000)
    """Number N of clients, >= 1. Ours (paper: 1000)."""
    samples_per_client: int = Field(50, ge=1, le=1_000_000)
    """Training samples each client holds, >= 1; clients overlap when N x samples exceeds the training part. Ours (paper: 350)."""
    partition: Partition = Field(default_factory=DirichletPartition)
    """How classes are spread over clients. Paper: dirichlet; natural on FEMNIST."""

    @model_validator(mode="after")
    def _owners_are_known(self) -> Self:
        if isinstance(self.partition, NaturalPartition) and not self.has_owners:
            raise ValueError(
                "partition.kind=natural needs data that says whose each sample is; use dirichlet or iid here"
            )
        return self


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


class Cifar100Task(FederatedTask):
    """CIFAR-100, 3x32x32 photographs, 100 classes, from torchvision's files."""

    name: Literal["cifar100"] = "cifar100"
    """Discriminator."""
    samples_per_client: int = Field(350, ge=1, le=1_000_000)
    """Training samples each client holds, >= 1. Paper: 350."""
    data_dir: PathText = "data"
    """Folder that holds `cifar-100-python/` (torchvision's root). Ours."""


class FemnistTask(FederatedTask):
    """FEMNIST, 1x28x28 handwritten digits and letters, 62 classes, with their writers: LEAF's JSON folders or Parquet files."""

    has_owners: ClassVar[bool] = True

    name: Literal["femnist"] = "femnist"
    """Discriminator."""
    samples_per_client: int = Field(350, ge=1, le=1_000_000)
    """Training samples each client holds, >= 1; in a natural partition at most. Paper: 350."""
    partition: Partition = Field(default_factory=NaturalPartition)
    """How samples are spread over clients. Published: by writer."""
    data_dir: PathText = "data"
    """Folder that holds `femnist/` with LEAF's `data/train/` and `data/test/`, or `femnist/` with Parquet files. Ours."""


class MnistWritersTask(FederatedTask):
    """MNIST, 1x28x28 handwritten digits, 10 classes, with the writer of each as QMNIST found it: 539 people in the training part."""

    has_owners: ClassVar[bool] = True

    name: Literal["mnist_writers"] = "mnist_writers"
    """Discriminator."""
    samples_per_client: int = Field(350, ge=1, le=1_000_000)
    """Training samples each client holds, >= 1; in a natural partition at most (a writer has 131 or fewer). Paper: 350."""
    partition: Partition = Field(default_factory=NaturalPartition)
    """How samples are spread over clients. Ours: by writer, as FEMNIST."""
    data_dir: PathText = "data"
    """Folder that holds `MNIST/raw/` and `QMNIST/raw/` (torchvision's root), or these files themselves. Ours."""
    image_size: Literal[14, 28] = 28
    """Side in pixels; 14 average-pools 2x2, about 4x cheaper. Ours."""


class NewsgroupsTask(FederatedTask):
    """20 Newsgroups, Usenet posts without headers, footers and quotes, 20 classes, from the folders of the bydate version."""

    name: Literal["newsgroups"] = "newsgroups"
    """Discriminator."""
    data_dir: PathText = "data"
    """Folder that holds `20news-bydate-train/` and `20news-bydate-test/`. Ours."""
    length: int = Field(64, ge=8, le=4096)
    """Tokens of a text: longer ones are cut, shorter ones padded. Ours (the authors' reference settings: 64 to 128)."""
    vocabulary: int = Field(4000, ge=16, le=1_000_000)
    """Token ids, padding and unknown included: the most frequent words of the training part, or those of tokenizer_file. Ours (T5: 32100)."""
    tokenizer_file: PathText | None = None
    """A pre-trained tokenizer.json, which needs the extra `text`; null = words, counted in the training part. Ours."""
    snippets: PathText | None = None
    """Texts that a language model wrote, one a line behind its group and a tab, for algorithm.text_start=snippets; null = those of this package. Ours."""


class NextTokenTask(FederatedTask):
    """The next character or word of a person's text (Shakespeare, Stack Overflow), from LEAF's JSON folders or Parquet files."""

    has_owners: ClassVar[bool] = True

    name: Literal["next_token"] = "next_token"
    """Discriminator."""
    data_dir: PathText = "data"
    """Folder that holds LEAF's `train/` and `test/`, or Parquet files. Ours."""
    unit: Literal["character", "word"] = "character"
    """What a token is. LEAF: characters of Shakespeare, words of Stack Overflow."""
    length: int = Field(80, ge=1, le=4096)
    """Tokens of the context from which the next one is predicted; shorter ones are padded in front. LEAF: 80 characters."""
    vocabulary: int = Field(128, ge=4, le=1_000_000)
    """Token ids, padding and unknown included, and so the classes: the most frequent tokens of the training part. Ours; usual for Stack Overflow: 10000 words."""


TaskSettings = Annotated[
    DigitsTask
    | DigitsAffineTask
    | FashionMnistTask
    | Cifar10Task
    | Cifar100Task
    | FemnistTask
    | MnistWritersTask
    | NewsgroupsTask
    | NextTokenTask,
    Field(discriminator="name"),
]
