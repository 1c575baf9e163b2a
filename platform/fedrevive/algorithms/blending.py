"""How a distilled delta joins a client delta, wherever it comes from, and what is reported of the two."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeGuard

import torch
from torch import Tensor

from fedrevive.algorithms.aggregation import Upload
from fedrevive.core.messages import StepInfo


def blended(upload: Upload, distilled: Tensor | None, beta: float) -> tuple[Tensor, StepInfo]:
    """(1 - beta)*client_delta + beta*distilled_delta [P]; the raw update, reported as beta = 0, when there is no
    distilled delta or one that is not finite.

    Keeping the raw update, rather than blending with zeros, avoids shrinking it by 1 - beta for nothing
    (published example, fixed after review).
    """
    if not _usable(distilled):
        return upload.delta, replace(_raw(upload, distilled), beta=0.0)
    info = replace(described(upload, distilled), beta=beta)
    raw = (1.0 - beta) * upload.delta
    return (raw + beta * distilled if info.distilled_delta_norm else raw), info


def added(upload: Upload, distilled: Tensor | None, scale: float) -> tuple[Tensor, StepInfo]:
    """client_delta + scale*distilled_delta [P], without a beta; the raw update as in `blended`."""
    if not _usable(distilled):
        return upload.delta, _raw(upload, distilled)
    return upload.delta + scale * distilled, described(upload, distilled)


def described(upload: Upload, distilled: Tensor) -> StepInfo:
    """The upload's info with the distilled delta's norm and its cosine with the client delta."""
    norm = float(torch.linalg.vector_norm(distilled))
    product = norm * upload.info.client_delta_norm
    return replace(
        upload.info,
        distilled_delta_norm=norm,
        delta_cosine=float(torch.dot(upload.delta, distilled)) / product if product > 0 else None,
    )


def _raw(upload: Upload, distilled: Tensor | None) -> StepInfo:
    reason = None if distilled is None else "the distilled delta was not finite; the raw update was taken"
    return replace(upload.info, discarded=reason)


def _usable(distilled: Tensor | None) -> TypeGuard[Tensor]:
    return distilled is not None and bool(torch.isfinite(distilled).all())
