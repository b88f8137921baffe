"""Times of programs that run in turn, and tables of them."""

import statistics
import time
from collections.abc import Callable, Sequence

import jax


class TaskError(Exception):
    """A program that could not do its task, for want of memory, say."""


def seconds_of(run: Callable[[], object]) -> float:
    """The seconds that a call takes until its result is there."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def medians(jobs: Sequence[Callable[[], float]], *, rounds: int, warm_ups: int = 2) -> list[float | None]:
    """The median seconds of each job, all of which run in turn, so that the machine's moods meet them alike.

    Args:
        jobs: functions that do something once and return the seconds that it took.
        rounds: how often each is measured.
        warm_ups: how often each runs before that.

    Returns:
        A time for each job; None where it raised `TaskError`, whose message is printed.
    """
    times = [[] for _ in jobs]
    failed = set()
    for _ in range(warm_ups + rounds):
        for index, job in enumerate(jobs):
            if index not in failed:
                try:
                    times[index].append(job())
                except TaskError as error:
                    print(f"  left out: {error}", flush=True)
                    failed.add(index)
    return [None if index in failed else statistics.median(seconds[warm_ups:]) for index, seconds in enumerate(times)]


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a header, the first column aligned left; numbers with three digits, None as a dash."""
    cells = [list(header), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for first, *others in cells:
        line = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        print("  " + "   ".join(line), flush=True)


def ratio(a: float | None, b: float | None) -> float | None:
    """The quotient a / b; None where either is missing."""
    return None if a is None or b is None else a / b


def _text(cell: object) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
    return str(cell)
