"""Progress bars on stderr: of long loops, and of work that reports its steps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


def track(
    iterable: Iterable[T], description: str, total: int | None = None, disable: bool | None = None
) -> Generator[T, None, None]:
    """Yield the items of ``iterable`` while a bar on stderr counts them.

    Args:
        iterable: consumed lazily, one item ahead at most.
        description: words before the bar.
        total: number of items; None asks ``len(iterable)``, and without one the bar only pulses.
        disable: None shows the bar only when stderr is a terminal; True never; False always.
    """
    if disable is None:
        disable = not sys.stderr.isatty()
    if disable:
        yield from iterable
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(iterable, description, total=total, console=Console(stderr=True))


@contextmanager
def steps_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Gives what shows work by its name, the steps done and all of them, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda name, done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        bars = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total)
            progress.update(bars[name], completed=done)

        yield show
