"""Signals that ask a run to stop: SIGTERM, which announces a preemption, and SIGINT, which is Ctrl-C."""

import os
import signal
import threading
from types import FrameType
from typing import Self

import jax
from jax.experimental import multihost_utils


class Interrupted(Exception):  # noqa: N818, it is no error
    """A signal asks the run to stop; `signal` says which."""

    def __init__(self, number: signal.Signals):
        """Say which."""
        super().__init__(number.name)
        self.signal = number


class Interruption:
    """Notes a signal, so that a run can finish its step and save; a second SIGINT ends the program at once.

    A context manager. With several processes, a signal to any of them stops all after the same step. In a thread that
    is not the main one, signals are left as they are.
    """

    def __init__(self):
        """Leave signals as they are until the context is entered."""
        self._signal: signal.Signals | None = None
        self._checks = 0
        self._handlers_before = {}

    def __enter__(self) -> Self:
        # With several processes JAX handles SIGTERM itself, and tells all of them.
        handled = (signal.SIGINT,) if jax.process_count() > 1 else (signal.SIGINT, signal.SIGTERM)
        if threading.current_thread() is threading.main_thread():
            self._handlers_before = {number: signal.signal(number, self._note) for number in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self._signal = signal.Signals(number)

    def check(self) -> None:
        """Raise Interrupted if a signal has come; all processes call it equally often, between the same steps."""
        self._checks += 1
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(self._checks):
            self._signal = signal.SIGTERM
        if self._signal is not None:
            raise Interrupted(self._signal)
