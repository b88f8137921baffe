"""Train, evaluate and explain a CoDA-Net on ImageNet; see experiments/configs/imagenet.py for the configurations.

python -m experiments.imagenet --config=experiments/configs/imagenet.py:9L-L-CoDA-SQ-100000 --workdir=runs/imagenet
"""

from experiments import command_line, job

if __name__ == "__main__":
    command_line.run(job.main)
