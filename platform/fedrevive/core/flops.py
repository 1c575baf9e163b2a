"""What one arrival costs a FedRevive server, in floating-point operations (multiply-add = 2).

Units: one forward pass of the client model on one sample. A backward pass costs two forwards through a
network whose weights are trained and one where only the input needs a gradient (algorithm.md §1.12). No
torch: `plan` prints these.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.peers import DdFedReviveSettings


@dataclass(frozen=True)
class ArrivalWork:
    """What the server did, or will do, for one arrival."""

    teachers: int
    """|C|, the arriving model included."""
    probed: bool
    """Class proportions were probed (first two uploads of a client)."""
    synthesised: bool
    adversarial: bool
    """Synthesis ran the student too."""
    distilled: bool
    asked: int | None = None
    """Samples all teachers together were asked for, where answers are remembered; None = as many as are drawn."""


def generator_flops(settings: FedReviveSettings, input_shape: tuple[int, ...]) -> int:
    """Forward pass of the generator for one image: its linear layer and three 3x3 convolutions; texts cost nothing."""
    if len(input_shape) == 1:
        return 0
    channels, height, width = input_shape
    base = settings.generator_width
    pixels = 16 * -(-height // 4) * -(-width // 4)
    linear = settings.latent_size * 2 * base * pixels // 16
    first = 9 * (2 * base) * (2 * base) * pixels // 4
    second = 9 * (2 * base) * base * pixels
    last = 9 * base * channels * pixels
    return 2 * (linear + first + second + last)


def distillation_forwards(
    settings: FedReviveSettings | DdFedReviveSettings, teachers: int, asked: int | None = None
) -> int:
    """K_KD steps in forward passes of one sample: the teachers', the student's forward and backward.

    Args:
        settings: steps and batches.
        teachers: |C|.
        asked: samples the teachers were asked for; None = all that are drawn.
    """
    drawn = settings.distill_steps * settings.distill_batch * teachers
    return (drawn if asked is None else asked) + 3 * drawn


def arrival_flops(
    work: ArrivalWork, settings: FedReviveSettings, forward_flops: int, input_shape: tuple[int, ...]
) -> float:
    """Operations of probing, synthesis and distillation for one arrival.

    Args:
        work: what is done.
        settings: the method's settings.
        forward_flops: forward pass of the client model for one sample.
        input_shape: (C, H, W) of one image, or (L,) of one text.
    """
    forwards = 0
    total = 0.0
    if work.probed:
        forwards += settings.probe_samples
    if work.synthesised:
        samples = settings.synthesis_steps * settings.synthesis_batch
        forwards += samples * (2 * work.teachers + (2 if work.adversarial else 0))
        passes = (
            3.0 if settings.generator_file is None else 2.0
        )  # a frozen one needs no gradient of its weights
        total += passes * samples * generator_flops(settings, input_shape)
    if work.distilled:
        forwards += distillation_forwards(settings, work.teachers, work.asked)
    return total + float(forwards) * forward_flops
