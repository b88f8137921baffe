"""Train, evaluate and explain a CoDA-Net on Imagenette; see experiments/configs/imagenette.py for the configurations.

python -m experiments.imagenette --config=experiments/configs/imagenette.py:5L-XS128-CoDA-SQ-3000 --workdir=DIR
"""

from experiments import command_line, job

if __name__ == "__main__":
    command_line.run(job.main)
