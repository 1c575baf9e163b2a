"""Whether a task's samples are images or texts, and what follows for the other sections."""

from __future__ import annotations

from fedrevive.settings.algorithm import AlgorithmSettings
from fedrevive.settings.client import ClientSettings
from fedrevive.settings.fedrevive import FedReviveSettings
from fedrevive.settings.model import ModelSettings, T5EncoderSettings, TextTransformerSettings
from fedrevive.settings.peers import DdFedReviveSettings
from fedrevive.settings.task import NewsgroupsTask, NextTokenTask, TaskSettings


def misfit(
    task: TaskSettings, model: ModelSettings, client: ClientSettings, algorithm: AlgorithmSettings
) -> str | None:
    """Why the sections do not go together: one line that names the field; None when they do."""
    length = task.length if isinstance(task, NewsgroupsTask | NextTokenTask) else None
    if isinstance(model, TextTransformerSettings | T5EncoderSettings) != (length is not None):
        known = "a network of images, such as cnn" if length is None else "text_transformer or t5_encoder"
        return f"model.name: {model.name} does not fit task.name={task.name}; use {known}"
    starts = isinstance(algorithm, FedReviveSettings) and algorithm.text_start == "snippets"
    if starts and not isinstance(task, NewsgroupsTask):
        return f"algorithm.text_start: snippets does not fit task.name={task.name}, which has none; use vocabulary"
    return None if length is None else _unfit_for_texts(length, client, algorithm)


def _unfit_for_texts(length: int, client: ClientSettings, algorithm: AlgorithmSettings) -> str | None:
    """The setting that texts of `length` tokens rule out."""
    asked: dict[str, str] = {"client.augmentation": client.augmentation}
    match algorithm:
        case FedReviveSettings():
            asked["algorithm.augmentation"] = algorithm.augmentation
            asked["algorithm.distill_augmentation"] = algorithm.distill_augmentation
            if algorithm.prompt_vectors >= length:
                return (
                    f"algorithm.prompt_vectors: {algorithm.prompt_vectors} leave no place in texts of {length} tokens; "
                    "use fewer, or a larger task.length"
                )
            if algorithm.generator_file is not None:
                return (
                    "algorithm.generator_file: a generator of images does not fit a task of texts; use null"
                )
        case DdFedReviveSettings():
            asked["algorithm.augmentation"] = algorithm.augmentation
    for path, value in asked.items():
        if value.startswith("crop_flip"):
            return f"{path}: {value} is for images, and this task has texts; use none"
    return None
