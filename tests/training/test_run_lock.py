import re
import signal
import socket
import subprocess
import sys

import pytest

from coda_jax import InputError
from coda_jax.training.run_lock import locked

HOLDS = """
import sys, time
from pathlib import Path
from coda_jax.training.run_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def hold(workdir):
    return subprocess.Popen(
        [sys.executable, "-c", HOLDS, workdir], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_of_two_processes_the_second_is_refused_until_the_first_is_killed(tmp_path):
    first = hold(tmp_path)
    try:
        assert first.stdout.readline() == "held\n"
        _, err = hold(tmp_path).communicate(timeout=60)
        holder = rf"process {first.pid} on {re.escape(socket.gethostname())} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
        line = rf"InputError: {tmp_path} is in use by {holder}\S*: wait for its end, or use another --workdir"
        assert re.search(line, err.splitlines()[-1])
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert (tmp_path / "run.lock").exists()
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_directory_is_made_and_goes_if_nothing_is_written(tmp_path):
    with locked(tmp_path / "a"):
        (tmp_path / "a" / "written").touch()
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "b"):
        _ = 1 / 0
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "written"]


def test_held_twice_in_one_process(tmp_path):
    with locked(tmp_path):
        with pytest.raises(InputError, match="is in use by process"), locked(tmp_path):
            pass
        with pytest.raises(InputError, match="is in use by process"), locked(tmp_path):  # It is still held.
            pass


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"cannot write to {tmp_path}/file"), locked(tmp_path / "file"):
        pass
