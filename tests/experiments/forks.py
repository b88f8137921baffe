"""Command lines in forks of one process that has imported what they import, which takes longer than to refuse them.

Reads lines of JSON, [number of devices, module, argument, ...], and answers each with one, [exit status, standard
output, standard error, seconds of CPU time].
"""

import gc
import importlib
import json
import os
import runpy
import signal
import sys
import tempfile
import traceback

SECONDS = 300  # After which a command line is ended.
# All but what defines flags, which each command line is to do for itself.
MODULES = (
    "coda_jax.data.cifar10",
    "coda_jax.data.digits",
    "coda_jax.data.image_folder",
    "coda_jax.plotting.curves",
    "coda_jax.plotting.maps",
    "coda_jax.training.loop",
    "experiments.command_line",
    "experiments.configs.cifar10",
    "experiments.configs.digits",
    "experiments.configs.image_folder",
    "experiments.measurements",
    "experiments.plots",
)


def exit_status(module):
    """That of `python -m module`, without the interpreter's tidying up, which takes a second."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return 0
    except SystemExit as exit:
        if isinstance(exit.code, str):
            print(exit.code, file=sys.stderr)
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def run(devices, *command):
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            signal.alarm(SECONDS)
            os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
            sys.argv = list(command)
            os._exit(exit_status(command[0]))
        _, status, usage = os.wait4(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return os.waitstatus_to_exitcode(status), *texts, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()  # Else every fork's collections would copy the memory of all that was imported.
    while line := sys.stdin.readline():
        print(json.dumps(run(*json.loads(line))), flush=True)
