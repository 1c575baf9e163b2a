"""Recorded channel statistics against loops."""

from __future__ import annotations

import pytest
import torch

from fedrevive.core.feature_statistics import FeatureTracker


def test_mean_variance_and_momentum_equal_the_loop() -> None:
    random = torch.Generator().manual_seed(4)
    tracker = FeatureTracker(3).train()
    means, variances = [0.0] * 3, [1.0] * 3
    for number in range(4):
        features = number + (1 + number) * torch.randn(5, 3, 2, 4, generator=random)
        assert tracker(features) is features
        for channel in range(3):
            values = [float(v) for image in features for v in image[channel].double().flatten()]
            mean = sum(values) / len(values)
            variance = sum((value - mean) ** 2 for value in values) / len(values)  # biased: over n, not n - 1
            means[channel] += 0.1 * (mean - means[channel])
            variances[channel] += 0.1 * (variance - variances[channel])
        assert tracker.running_mean.tolist() == pytest.approx(means, rel=1e-5, abs=1e-6)
        assert tracker.running_var.tolist() == pytest.approx(variances, rel=1e-5)


def test_nothing_is_recorded_outside_training() -> None:
    tracker = FeatureTracker(2).eval()
    tracker(5 + torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0)))
    assert tracker.running_mean.tolist() == [0.0, 0.0]
    assert tracker.running_var.tolist() == [1.0, 1.0]
