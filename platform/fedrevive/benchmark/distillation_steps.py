"""The steps of one distilling arrival on their own, in its shapes: 32 images per teacher and step (algorithm.md §1.5).

They call what the server calls. What a step costs on its own may differ a little from what it costs within an arrival,
where the processor's caches hold other things; the difference, and whatever has no step here, is the remainder.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedrevive.assemble import new_model
from fedrevive.benchmark.sizes import SEED
from fedrevive.core.adam import Adam
from fedrevive.core.augmentation import build_augmentation
from fedrevive.core.diagnostics import teacher_agreement
from fedrevive.core.distillation import distillation_loss
from fedrevive.core.feature_statistics import FeatureTracker, statistic_layers
from fedrevive.core.model_state import FlatModel
from fedrevive.core.synthetic_pool import SyntheticPool, draw_by_class
from fedrevive.core.teachers import Teacher, TeacherModels, probe
from fedrevive.settings import ExperimentConfig
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.tasks import task_info

STEPS = ("probing", "copying", "sampling", "teachers", "students", "optimiser", "agreement")
FLOORS = ("floor_at_once", "floor_by_step")
"""Teachers answer for all steps in one pass, or step by step; which is faster depends on caches."""


class DistillationSteps:
    """Everything an arrival touches, at the sizes of `config`."""

    def __init__(self, config: ExperimentConfig) -> None:
        assert isinstance(config.algorithm, FedReviveSettings)
        self._settings = config.algorithm
        self._info = task_info(config.task)
        self._random = torch.Generator().manual_seed(SEED)
        self._new_model: Callable[[], FlatModel] = lambda: new_model(config, "cpu")
        count = self._settings.teacher_capacity
        self._student = self._new_model()
        self._vectors = [self._student.vector.clone() for _ in range(count + 1)]
        self._buffer = tuple(Teacher(n, n, vector) for n, vector in enumerate(self._vectors[:count]))
        self._loaded = TeacherModels(self._new_model)
        self._models = self._loaded.load(self._buffer)
        size, classes = self._settings.pool_capacity, self._info.classes
        self._pool = SyntheticPool(
            torch.rand(size, *self._info.input_shape, generator=self._random),
            torch.randint(classes, (size,), generator=self._random),
        )
        self._proportions = torch.full((count, classes), 1.0 / classes)
        self._augment = build_augmentation(
            self._settings.augmentation, self._info.mean, self._info.std, torch.device("cpu")
        )
        self._images = self._sampled()  # [c, s, b, C, H, W]
        self._inputs = [
            self._images[:, step].flatten(0, 1).contiguous(memory_format=torch.channels_last)
            for step in range(self._settings.distill_steps)
        ]
        self._answers = torch.zeros(len(self._inputs), len(self._inputs[0]), classes)

    def steps(self) -> dict[str, Callable[[], object]]:
        """What an arrival does, by name (`STEPS`)."""
        found = (
            self._probe,
            self._copy,
            self._sampled,
            self._ask_at_once,
            self._train,
            self._optimise,
            self._agree,
        )
        return dict(zip(STEPS, found, strict=True))

    def floors(self) -> dict[str, Callable[[], object]]:
        """The passes of the teachers and of the student and nothing else, by name (`FLOORS`)."""

        def at_once() -> None:
            self._ask_at_once()
            self._train()

        def by_step() -> None:
            self._ask_by_step()
            self._train()

        return dict(zip(FLOORS, (at_once, by_step), strict=True))

    def _probe(self) -> Tensor:
        """Load the upload, draw noise, ask."""
        self._student.load(self._vectors[0])
        self._student.module.eval().requires_grad_(False)
        noise = torch.randn(self._settings.probe_samples, *self._info.input_shape, generator=self._random)
        return probe(self._student, noise, self._settings.probe_temperature)

    def _copy(self) -> object:
        """Delta, one teacher in and one out, the student's start and difference, the new model and its copy."""
        count = self._student.spec.parameter_count
        own, other = self._vectors[0], self._vectors[-1]
        delta = own[:count] - other[:count]
        newest = Teacher(-1, -1, other.clone())
        self._models = self._loaded.load((newest, *self._buffer[:-1]))
        self._models = self._loaded.load(self._buffer)
        self._student.load(own)
        before = self._student.parameters.clone()
        mixed = delta.mul(0.5).add_(self._student.parameters - before, alpha=0.5)
        model = own.clone()
        model[:count].add_(mixed, alpha=0.1)
        return model.to("cpu", copy=True).numpy()

    def _sampled(self) -> Tensor:
        """Draw for all teachers and steps, gather, augment: [c, s, b, C, H, W]."""
        steps, batch = self._settings.distill_steps, self._settings.distill_batch
        drawn = draw_by_class(self._pool, self._proportions, steps * batch, self._random)
        images = self._augment(self._pool.samples[drawn.flatten()], self._random)
        return images.view(len(self._buffer), steps, batch, *self._info.input_shape)

    @torch.inference_mode()
    def _ask_at_once(self) -> None:
        for model, own in zip(self._models, self._images, strict=True):
            model.module(own.flatten(0, 1))

    @torch.inference_mode()
    def _ask_by_step(self) -> None:
        batch = self._settings.distill_batch
        for inputs in self._inputs:
            for model, own in zip(self._models, torch.split(inputs, batch), strict=True):
                model.module(own)

    def _train(self) -> None:
        """The student's passes, each over the images of all teachers."""
        self._student.module.train().requires_grad_(True)
        for layer in statistic_layers(self._student.module):
            if isinstance(layer, FeatureTracker):
                layer.eval()
        for inputs, answers in zip(self._inputs, self._answers, strict=True):
            loss = distillation_loss(
                self._student.module(inputs), answers, self._settings.distill_temperature
            )
            loss.backward()  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def _agree(self) -> None:
        asked = self._inputs[0][:: len(self._models)]
        teacher_agreement([model.module(asked) for model in self._models])

    def _optimise(self) -> None:
        settings, student = self._settings, self._student
        adam = Adam([student.parameters], [settings.distill_lr], weight_decay=settings.distill_weight_decay)
        for _ in range(settings.distill_steps):
            student.gradient.zero_()
            adam.step([student.gradient])
