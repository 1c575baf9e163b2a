"""The random words behind who is drawn."""

from __future__ import annotations

from array import array

from fedrevive.core.seeds import Purpose, philox

_BLOCK = 8192


class Draws:
    """One participation stream: 64-bit words by number."""

    def __init__(self, seed: int, stream: int) -> None:
        self._seed, self._stream = seed, stream
        self._words = array("Q")

    def __getitem__(self, number: int) -> int:
        while number >= len(self._words):
            start = len(self._words) // 4
            counters = range(start, start + _BLOCK // 4)
            words = philox(self._seed, Purpose.PARTICIPATION, self._stream, counters)
            self._words.frombytes(words.tobytes())
        return self._words[number]
