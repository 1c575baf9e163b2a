"""Class proportions of all clients, from probing their uploads: an append-only log, and where its rows are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

FIRST_ROOM = 64
"""Rows of the first allocation; each further one doubles it."""


@dataclass(frozen=True)
class ProbeLog:
    """Every probe so far, in order of arrival. Rows never change, so a longer log may share them with a shorter one."""

    clients: Tensor
    """[n], int64: whose upload was probed."""
    totals: Tensor
    """[n, classes], float32: sum of this client's probed distributions up to and including this one."""

    def __len__(self) -> int:
        return self.clients.shape[0]


def empty_log(classes: int, device: torch.device) -> ProbeLog:
    """A log without probes."""
    return _rows(0, classes, device)


class ProbeIndex:
    """Finds the rows of a log and makes logs one row longer, at a cost that does not grow with the clients (amortised).

    It knows nothing that the log does not say. The log it made last it extends in place, behind the last row, where
    no other log looks; any other log (a restored one, an earlier one) is indexed and, to be extended, copied.
    Row numbers are kept on the host: nothing here waits for the device, except to index a log it did not make.
    """

    def __init__(self) -> None:
        self._log: ProbeLog | None = None
        self._found: dict[int, tuple[int, int]] = {}
        """Client -> its last row in `_log`, and how many rows it has."""
        self._room: ProbeLog
        """Starts with the rows of `_log`; those beyond belong to this index alone."""

    def uploads(self, log: ProbeLog, client: int) -> int:
        """How many uploads of `client` were probed."""
        return self._follow(log).get(client, (0, 0))[1]

    def appended(self, log: ProbeLog, client: int, probed: Tensor) -> ProbeLog:
        """`log`, which stays as it is, and one more probe [classes]."""
        last, uploads = self._follow(log).get(client, (0, 0))
        count = len(log)
        if count == len(self._room):
            self._room = _with_room(log)
        self._room.clients[count].fill_(client)
        self._room.totals[count].copy_(log.totals[last] + probed if uploads else probed)
        self._found[client] = (count, uploads + 1)
        self._log = ProbeLog(self._room.clients[: count + 1], self._room.totals[: count + 1])
        return self._log

    def proportions(self, log: ProbeLog, clients: Iterable[int]) -> Tensor:
        """Mean probed distribution of each of `clients`, as far as `log` knows: [c, classes], rows sum to 1.

        Raises:
            KeyError: a client was never probed.
        """
        found = self._follow(log)
        rows = [found[client] for client in clients]
        return torch.stack([log.totals[last] / uploads for last, uploads in rows])

    def _follow(self, log: ProbeLog) -> dict[int, tuple[int, int]]:
        if log is not self._log:
            self._found = {}
            for row, client in enumerate(log.clients.tolist()):
                self._found[client] = (row, self._found.get(client, (0, 0))[1] + 1)
            self._log = self._room = log
        return self._found


def _with_room(log: ProbeLog) -> ProbeLog:
    """A copy of `log` with as many rows again, not yet written, behind it."""
    count, classes = log.totals.shape
    larger = _rows(max(FIRST_ROOM, 2 * count), classes, log.totals.device)
    larger.clients[:count].copy_(log.clients)
    larger.totals[:count].copy_(log.totals)
    return larger


def _rows(count: int, classes: int, device: torch.device) -> ProbeLog:
    return ProbeLog(
        clients=torch.empty(count, dtype=torch.int64, device=device),
        totals=torch.empty(count, classes, dtype=torch.float32, device=device),
    )
