"""How many searches are in service right now."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class InFlight:
    """A counter of searches in service, safe to share between threads."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Searches in service."""
        return self._count

    @contextmanager
    def search(self) -> Iterator[int]:
        """Count one search for as long as the block runs; gives the count, itself included."""
        with self._lock:
            self._count += 1
            count = self._count
        try:
            yield count
        finally:
            with self._lock:
                self._count -= 1
