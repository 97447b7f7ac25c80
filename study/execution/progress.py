"""The progress display of a running study: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from study.planning.scheduler import Scheduler

_SECONDS_BETWEEN_LINES = 15.0


class ProgressDisplay:
    """Shows a scheduler's state; a context manager.

    Args:
        console: where to print; standard error by default.

    Attributes:
        memory_mb: peak accelerator memory of the last cohort, in MiB; None on a CPU.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, markup=False)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._started = time.monotonic()
        self._done_before: int | None = None
        self._last_line = 0.0
        self.memory_mb: float | None = None

    def __enter__(self) -> ProgressDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def print_line(self, text: str) -> None:
        """Print a line that stays above the live table."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def show(self, scheduler: Scheduler) -> None:
        """Show the current state; without a terminal, print a line from time to time."""
        if self._done_before is None:
            self._done_before = scheduler.networks_done
        now = time.monotonic()
        headline = self._headline(scheduler, now)
        if self._console.is_terminal:
            self._live.update(self._table(scheduler, headline))
        elif now - self._last_line >= _SECONDS_BETWEEN_LINES or scheduler.is_done:
            self._last_line = now
            self.print_line(headline)
            if scheduler.is_done:
                for line in best_lines(scheduler):
                    self.print_line(f"  {line}")

    def _headline(self, scheduler: Scheduler, now: float) -> str:
        done, total = scheduler.networks_done, scheduler.networks_total
        fresh = done - (self._done_before or 0)
        seconds = now - self._started
        left = f"about {duration((total - done) * seconds / fresh)} left" if fresh else "starting"
        parts = [
            f"{done} of {total} networks",
            f"{scheduler.cohorts_done} cohorts done, {len(scheduler.in_flight)} in flight",
            f"{60 * fresh / seconds:.0f} networks/min",
            left,
        ]
        if self.memory_mb is not None:
            parts.insert(3, f"{self.memory_mb / 1024:.1f} GiB of accelerator memory")
        return " · ".join(parts)

    def _table(self, scheduler: Scheduler, headline: str) -> Group:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("cell", "searched", "best so far"):
            table.add_column(column)
        for cell_id, state in scheduler.search_state().items():
            table.add_row(cell_id, f"{state.completed}/{state.planned}", state.best_text)
        bar = ProgressBar(scheduler.networks_total, scheduler.networks_done, width=60)
        return Group(Text(headline), bar, table)


def best_lines(scheduler: Scheduler) -> list[str]:
    """One line per cell: its best search point."""
    return [f"{cell}: {state.best_text}" for cell, state in scheduler.search_state().items()]


def duration(seconds: float) -> str:
    """A time in words: `40 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
