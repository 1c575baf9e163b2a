"""SIGTERM and Ctrl-C: the first asks for a snapshot and a clean stop, a second Ctrl-C stops at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
_NOTICE = b"\nstopping: saving a snapshot first (Ctrl-C again to stop at once)\n"


class Interrupts:
    """Remembers the first signal; `install` takes over the handlers (again, after a library set its own)."""

    def __init__(self) -> None:
        self._flag = threading.Event()
        self.exit_code = 0
        """130 or 143 once a signal came."""

    def install(self) -> None:
        """Handle SIGINT and SIGTERM of this process; only in its main thread."""
        for number in _CODES:
            signal.signal(number, self._handle)

    def __call__(self) -> bool:
        """True once a signal came."""
        return self._flag.is_set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._flag.is_set() and number == signal.SIGINT:
            os._exit(
                _CODES[signal.SIGINT]
            )  # files are safe at every moment; threads and Ray would take seconds
        self.exit_code = _CODES[signal.Signals(number)]
        self._flag.set()
        os.write(2, _NOTICE)  # print is not re-entrant
