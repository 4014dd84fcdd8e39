"""How long a request may take, and how much of that time the database used."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import DatabaseTimeout


class Budget:
    """The time limit of one request, counted from the creation of this object.

    ``database_ms`` is the time that the request has spent waiting for PostgreSQL.
    """

    def __init__(self, milliseconds: int) -> None:
        self._started = time.monotonic()
        self._milliseconds = milliseconds
        self.database_ms = 0.0

    def spent_ms(self) -> float:
        """Return the milliseconds since the start."""
        return (time.monotonic() - self._started) * 1_000

    def left_ms(self) -> int:
        """Return the whole milliseconds that are left, at least 1.

        Raises:
            DatabaseTimeout: when none is left.
        """
        left = int(self._milliseconds - self.spent_ms())
        if left < 1:
            raise DatabaseTimeout
        return left

    @contextmanager
    def database_time(self) -> Iterator[None]:
        """Add the time that the block takes to ``database_ms``."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.database_ms += (time.monotonic() - started) * 1_000
