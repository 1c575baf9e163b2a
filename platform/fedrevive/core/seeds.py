"""Counter-based random streams: a draw is a pure function of (seed, purpose, client, n-th job).

Philox4x64-10 (Salmon et al., SC 2011, doi:10.1145/2063384.2063405), vectorised over clients and jobs. It equals
`numpy.random.Philox`, which the tests use as the slow scalar form. Nothing has to be saved to resume a stream, and no
draw depends on how many draws were made before it.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

UInt64 = NDArray[np.uint64]
Float64 = NDArray[np.float64]

_MASK = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_WORD = 2**64 - 1
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10


class Purpose(IntEnum):
    """What a stream is for. Values are part of every result: never renumber."""

    PARTICIPATION = 1
    DOWNLOAD = 2
    TRAINING_TIME = 3
    UPLOAD = 4
    CLIENT_SPEED = 5
    LOCAL_TRAINING = 6
    INITIAL_MODEL = 7
    PARTITION = 8
    PROBE = 9
    SYNTHESIS = 10
    DISTILLATION = 11
    INITIAL_GENERATOR = 12
    TASK_DATA = 13
    RANDOM_TEACHER = 14
    FAULT = 15
    FAULTY_CLIENT = 16
    TRACE = 17


def philox(seed: int, purpose: Purpose, client: ArrayLike, nth: ArrayLike, block: int = 0) -> UInt64:
    """Four 64-bit words per (client, nth): shape [..., 4], `client` and `nth` broadcast.

    Args:
        seed: the experiment's seed, 0 <= seed < 2**63.
        purpose: separates streams that share a counter.
        client: client ids, >= 0.
        nth: number of the client's job (or of the server's version), >= 0.
        block: for more than four words per counter.
    """
    first, second = np.broadcast_arrays(np.asarray(nth, np.uint64), np.asarray(client, np.uint64))
    words = [
        first.copy(),
        second.copy(),
        np.full(first.shape, block, np.uint64),
        np.zeros(first.shape, np.uint64),
    ]
    key = [int(seed), int(purpose)]
    with np.errstate(over="ignore"):  # arithmetic is modulo 2**64 by design; numpy warns for scalars
        for round_number in range(_ROUNDS):
            if round_number:
                key = [(k + w) & _WORD for k, w in zip(key, _WEYL, strict=True)]
            high0, low0 = _multiply(words[0], np.uint64(_MULTIPLIERS[0]))
            high1, low1 = _multiply(words[2], np.uint64(_MULTIPLIERS[1]))
            words = [high1 ^ words[1] ^ np.uint64(key[0]), low1, high0 ^ words[3] ^ np.uint64(key[1]), low0]
    return np.stack(words, axis=-1)


def uniform(words: UInt64) -> Float64:
    """Uniform doubles in the open interval (0, 1) from 64-bit words, same shape."""
    return ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(words: UInt64) -> Float64:
    """Standard normal doubles by Box-Muller from pairs of words: [..., 2] -> [...]."""
    u = uniform(words)
    return np.sqrt(-2.0 * np.log(u[..., 0])) * np.cos(2.0 * np.pi * u[..., 1])


def derived_seed(seed: int, purpose: Purpose, client: int = 0, nth: int = 0) -> int:
    """One 63-bit seed for a generator that needs its own stream."""
    return _first_word(seed, purpose, client, nth) >> 1


def torch_generator(
    seed: int, purpose: Purpose, client: int = 0, nth: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator positioned at the start of the named stream."""
    return torch.Generator(device=device).manual_seed(derived_seed(seed, purpose, client, nth))


def numpy_generator(seed: int, purpose: Purpose, client: int = 0, nth: int = 0) -> np.random.Generator:
    """A numpy generator positioned at the start of the named stream."""
    return np.random.Generator(np.random.Philox(derived_seed(seed, purpose, client, nth)))


def _first_word(seed: int, purpose: Purpose, client: int, nth: int) -> int:
    """`philox(...)[0]` for one counter: a twentieth of the time, which counts once per job."""
    key0, key1 = int(seed), int(purpose)
    word0, word1, word2, word3 = int(nth), int(client), 0, 0
    for _ in range(_ROUNDS):
        product0, product1 = word0 * _MULTIPLIERS[0], word2 * _MULTIPLIERS[1]
        word0, word1 = (product1 >> 64) ^ word1 ^ key0, product1 & _WORD
        word2, word3 = (product0 >> 64) ^ word3 ^ key1, product0 & _WORD
        key0, key1 = (key0 + _WEYL[0]) & _WORD, (key1 + _WEYL[1]) & _WORD
    return word0


def _multiply(a: UInt64, b: np.uint64) -> tuple[UInt64, UInt64]:
    """High and low words of the 128-bit product, from 32-bit halves."""
    a_low, a_high = a & _MASK, a >> _HALF
    b_low, b_high = b & _MASK, b >> _HALF
    cross = a_high * b_low + ((a_low * b_low) >> _HALF)
    middle = a_low * b_high + (cross & _MASK)
    return a_high * b_high + (cross >> _HALF) + (middle >> _HALF), a * b
