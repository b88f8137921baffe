import os
import signal
import threading

import pytest

from coda_jax.training.interruption import Interrupted, Interruption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_raised_at_the_next_check(number):
    before = signal.getsignal(number)
    with Interruption() as interruption:
        interruption.check()
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as caught:
            interruption.check()
    assert caught.value.signal == number
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_is_not_handled():
    with Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


def test_other_threads_leave_signals_as_they_are():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def run():
        with Interruption() as interruption:
            seen.append(signal.getsignal(signal.SIGINT))
            interruption.check()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]
