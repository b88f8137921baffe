"""Several processes, on one or many hosts, that train together."""

import jax
from absl import flags

from coda_jax.errors import InputError

_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, the same for all processes of a run.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the run.", 1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.", 0)

# A process that hears nothing of another for so long ends.
_SECONDS_OF_SILENCE = 30


def connect() -> None:
    """Join the other processes: those that the flags name, or those that a TPU pod, SLURM or MPI started.

    To be called before anything else of JAX. Alone, a process goes on as it is.

    Raises:
        InputError: only some of the flags are given, they contradict each other, or the others cannot be reached.
    """
    given = {flag.name: flag.value for flag in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID) if flag.value is not None}
    if 0 < len(given) < 3:
        raise InputError(f"--{', --'.join(given)} is not enough: give --coordinator, --num_processes and --process_id")
    if given and _PROCESS_ID.value >= _NUM_PROCESSES.value:
        raise InputError(f"process_id is {_PROCESS_ID.value}, but must be less than {_NUM_PROCESSES.value}, the number")
    if given and not _COORDINATOR.value.rpartition(":")[2].isdigit():
        raise InputError(f"coordinator is {_COORDINATOR.value!r}, but must be HOST:PORT, such as localhost:12345")
    try:
        jax.distributed.initialize(
            _COORDINATOR.value,
            _NUM_PROCESSES.value,
            _PROCESS_ID.value,
            heartbeat_timeout_seconds=_SECONDS_OF_SILENCE,
        )
    except (RuntimeError, ValueError) as error:
        if given:
            raise InputError(f"cannot reach the other processes by way of {_COORDINATOR.value}: {error}") from error
