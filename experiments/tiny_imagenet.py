"""Train, evaluate and explain a CoDA-Net on Tiny-ImageNet; see experiments/configs/tiny_imagenet.py.

python -m experiments.tiny_imagenet --config=experiments/configs/tiny_imagenet.py:5L-XS64-CoDA-SQ-100 --workdir=DIR
"""

from experiments import command_line, job

if __name__ == "__main__":
    command_line.run(job.main)
