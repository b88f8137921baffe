"""The record of a run's metrics, as JSON lines and for TensorBoard."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from coda_jax.errors import InputError, RunError


class MetricsLog:
    """Appends to a directory's `metrics.jsonl` and TensorBoard files; of several processes, the first one does.

    Raises RunError if they cannot be written.
    """

    def __init__(self, directory: Path, step: int):
        """Open the record as it was after `step` steps; what a lost continuation wrote after that goes."""
        self._directory = directory
        self._files: tuple[Any, ...] = ()  # The lines and the events.
        if jax.process_index() != 0:
            return
        tensorboard, path = directory / "tensorboard", directory / "metrics.jsonl"
        with self._written():
            tensorboard.mkdir(parents=True, exist_ok=True)
            kept = [record for record in read_metrics(path) if record["step"] <= step]
            replacement = path.with_suffix(".new")
            replacement.write_text("".join(json.dumps(record) + "\n" for record in kept))
            replacement.replace(path)
            # Not SummaryWriter, whose thread would fail unseen where the disk is full.
            events = EventsWriter(str(tensorboard / "events"))
            self._files = (path.open("a"), events)
            # Has TensorBoard hide what a lost continuation wrote after these steps.
            events.write_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))
            events.flush()

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Record the metrics' values after `step` steps."""
        if not self._files:
            return
        lines, events = self._files
        with self._written():
            lines.write(json.dumps({"step": step, **metrics}) + "\n")
            lines.flush()
            for name, value in metrics.items():
                events.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
            events.flush()

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            with suppress(OSError):  # Only what `write` has raised for already can be left to be written.
                file.close()

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"cannot write the metrics in {self._directory} ({error.strerror or error}): make room or make it "
                "writable; the same command goes on from the last checkpoint"
            ) from error


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The records of a `metrics.jsonl`, oldest first; none if there is no such file.

    A last line that a killed run did not finish is left out. Raises InputError if another line is no record.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            if line:
                records.append(json.loads(line))
                _ = records[-1]["step"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged (line {number} is no record): delete that line") from error
    return records
