"""Train, evaluate and explain a CoDA-Net on CIFAR-10; see experiments/configs/cifar10.py for the configurations.

python -m experiments.cifar10 --config=experiments/configs/cifar10.py:5L-XS-CoDA-SQ-100 --workdir=runs/cifar10-xs
"""

from experiments import command_line, job

if __name__ == "__main__":
    command_line.run(job.main)
