"""The record of a run's metrics, as JSON lines and for TensorBoard."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jax
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from coda_jax.errors import InputError, RunError


class MetricsLog:
    """Appends to `metrics.jsonl` and to TensorBoard's files in one directory; of several processes, the first does."""

    def __init__(self, directory: Path, step: int):
        """Open the record as it was after `step` steps; what a lost continuation wrote after that goes.

        Raises:
            RunError: it cannot be written; so does `write`.
        """
        self._directory = directory
        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        with self._written():
            directory.mkdir(parents=True, exist_ok=True)
            path = directory / "metrics.jsonl"
            kept = [record for record in read_metrics(path) if record["step"] <= step]
            replacement = path.with_suffix(".new")
            replacement.write_text("".join(json.dumps(record) + "\n" for record in kept))
            replacement.replace(path)
            self._lines = path.open("a")
            (directory / "tensorboard").mkdir(exist_ok=True)
            # Not SummaryWriter, whose thread would fail unseen where the disk is full.
            self._tensorboard = EventsWriter(str(directory / "tensorboard" / "events"))
            # Has TensorBoard hide what a lost continuation wrote after these steps.
            self._tensorboard.write_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))
            self._tensorboard.flush()

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Record the metrics' values after `step` steps."""
        if not self._writes:
            return
        with self._written():
            self._lines.write(json.dumps({"step": step, **metrics}) + "\n")
            self._lines.flush()
            for name, value in metrics.items():
                self._tensorboard.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
            self._tensorboard.flush()

    def close(self) -> None:
        """Close the files."""
        if not self._writes:
            return
        for file in (self._lines, self._tensorboard):
            with suppress(OSError):  # Only what `write` has raised for already can be left to be written.
                file.close()

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Say what to do where writing fails."""
        try:
            yield
        except OSError as error:
            raise RunError(
                f"cannot write the metrics in {self._directory} ({error.strerror or error}): make room or make it "
                "writable; the same command goes on from the last checkpoint"
            ) from error


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The records of a `metrics.jsonl`, oldest first; none if there is no such file.

    A last line that a killed run did not finish is left out.

    Raises:
        InputError: another line is no record.
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
