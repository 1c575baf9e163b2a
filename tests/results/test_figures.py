"""Pictures are drawn, of the promised size, the same every time, and survive extreme inputs."""

from __future__ import annotations

import numpy as np
import pytest

from fedrevive.results.figures import accuracy_figure, staleness_figure
from fedrevive.settings.errors import UserError


def pixels(path):
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def curve(evaluations, height=0.8):
    times = np.linspace(0, 100, evaluations)
    return times, height * times / 100


@pytest.mark.parametrize(
    "curves",
    [
        {"fedrevive": [curve(40), curve(40, 0.7)], "fedbuff": [curve(30)]},
        {"short": [curve(3)]},
        {"single evaluation": [([0.0], [0.1])]},
        {str(n): [curve(20, 0.8)] for n in range(9)},
    ],
)
def test_accuracy_figure(tmp_path, curves):
    accuracy_figure(curves, 0.7, "Accuracy", tmp_path / "a.png")
    accuracy_figure(curves, 0.7, "Accuracy", tmp_path / "b.png")
    assert pixels(tmp_path / "a.png") == (900, 550)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("staleness", [[0, 0], list(range(30)), [0, 100_000]])
def test_staleness_figure(tmp_path, staleness):
    staleness_figure(staleness, lambda tau: np.minimum(tau / 30, 1.0), tmp_path / "a.png")
    staleness_figure(staleness, None, tmp_path / "b.png")
    assert pixels(tmp_path / "a.png") == (900, 550)
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UserError, match="absent") as caught:
        accuracy_figure({"a": [curve(3)]}, None, "x", tmp_path / "absent" / "a.png")
    assert caught.value.exit_code == 5
