"""What stands at a network's normalisation positions, between convolution and ReLU."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from fedrevive.core.feature_statistics import FeatureTracker, batch_norm
from fedrevive.settings.model import Norm

GROUPS = 4
"""Groups of GroupNorm. Ours: every width is a multiple of 4."""


def normalisation(norm: Norm, channels: int, number: int) -> OrderedDict[str, nn.Module]:
    """Layers of position `number`, by name; each [N, C, H, W] -> [N, C, H, W].

    One of them records channel statistics: GroupNorm keeps none of its own, so a tracker stands before it.
    """
    match norm:
        case "none":
            return OrderedDict({f"tracker{number}": FeatureTracker(channels)})
        case "batch":
            return OrderedDict({f"norm{number}": batch_norm(channels)})
        case "group":
            return OrderedDict(
                {
                    f"tracker{number}": FeatureTracker(channels),
                    f"norm{number}": nn.GroupNorm(GROUPS, channels),
                }
            )
