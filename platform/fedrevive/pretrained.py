"""What was trained elsewhere and comes from a file: checked before anything starts, read where it is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fedrevive.settings import ExperimentConfig
from fedrevive.settings.errors import ExitCode, UserError, shown
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.model import T5EncoderSettings
from fedrevive.tasks import task_info

if TYPE_CHECKING:
    from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def require_files(config: ExperimentConfig) -> None:
    """Look whether the files that the settings name are there and fit, without reading their values.

    Raises:
        UserError: a file is missing or made for other sizes (exit code 2), or damaged (3).
    """
    info = task_info(config.task)
    if isinstance(config.model, T5EncoderSettings):
        from fedrevive.tasks import t5

        t5.check(config.model, info.vocabulary or 0)
    settings = config.algorithm
    if isinstance(settings, FedReviveSettings) and settings.generator_file is not None:
        _fits(_shapes(settings.generator_file), _expected(settings, info.input_shape), settings)


def generator_weights(config: ExperimentConfig) -> Mapping[str, Tensor] | None:
    """State dict of the generator that `algorithm.generator_file` names; None without one.

    Raises:
        UserError: as `require_files`.
    """
    settings = config.algorithm
    if not isinstance(settings, FedReviveSettings) or settings.generator_file is None:
        return None
    from safetensors.torch import load_file

    require_files(config)
    weights = load_file(_path(settings.generator_file))
    return {name: value.float() for name, value in weights.items()}


def _fits(found: Shapes, expected: Shapes, settings: FedReviveSettings) -> None:
    lead = f"algorithm.generator_file: {shown(settings.generator_file)}"
    if found.keys() != expected.keys():
        odd = min(found.keys() ^ expected.keys())
        what = "lacks" if odd in expected else "has an unknown"
        raise UserError(
            f"{lead} {what} tensor {shown(odd)}; needs exactly those of core.generator.ImageGenerator"
        )
    for name, shape in expected.items():
        if found[name] != shape:
            raise UserError(
                f"{lead} has {name} of {_sizes(found[name])}, this task's would be {_sizes(shape)}; set "
                "algorithm.latent_size and algorithm.generator_width to those of the file, for images of its size"
            )


def _expected(settings: FedReviveSettings, image_shape: tuple[int, ...]) -> Shapes:
    """Tensors of the generator's state dict."""
    import torch

    from fedrevive.core.generator import ImageGenerator

    with torch.device("meta"):
        module = ImageGenerator(settings.latent_size, settings.generator_width, image_shape)
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def _shapes(file: str) -> Shapes:
    """Tensors of a safetensors file, by its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(_path(file), framework="numpy") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(
            f"algorithm.generator_file: {shown(file)} does not exist; null trains a generator instead"
        ) from None
    except (OSError, SafetensorError) as error:
        reason = re.sub(r"\s+", " ", str(error))[:80]
        raise UserError(
            f"algorithm.generator_file: {shown(file)} is no safetensors file ({reason})",
            exit_code=ExitCode.CORRUPT,
        ) from None


def _path(file: str) -> str:
    return str(Path(file).expanduser())


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
