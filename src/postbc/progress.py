"""Progress of long work: a bar on a terminal, a line every tenth of the way in a log."""

import logging
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger("postbc")


class Track:
    """Counts ``total`` units of work under ``label``; use as a context manager and call :meth:`advance`."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done, self.note = label, max(total, 1), 0, ""
        self._bar: Progress | None = None
        self._started, self._next = time.monotonic(), 0.1

    def __enter__(self) -> "Track":
        if sys.stderr.isatty() and log.isEnabledFor(logging.INFO):
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Report ``amount`` more units done; ``note`` is shown beside the count."""
        self.done, self.note = self.done + amount, note or self.note
        if self._bar is not None:
            self._bar.update(self._task, advance=amount, description=f"{self.label} {self.note}".strip())
        elif self.done >= self._next * self.total:
            self._next = self.done / self.total + 0.1
            seconds = time.monotonic() - self._started
            log.info("%s %d/%d in %.0f s %s", self.label, self.done, self.total, seconds, self.note)


def track[T](items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Yield ``items`` and show how far along they are."""
    with Track(label, total) as bar:
        for item in items:
            yield item
            bar.advance()


class Stopwatch:
    """Seconds spent on each kind of work, to say where a long run's time goes."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, kind: str) -> Iterator[None]:
        """Count the time inside as ``kind``."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[kind] += time.perf_counter() - started

    def __str__(self) -> str:
        total = max(sum(self.seconds.values()), 1e-9)
        longest = sorted(self.seconds.items(), key=lambda item: -item[1])
        return ", ".join(f"{kind} {100 * spent / total:.0f} %" for kind, spent in longest)
