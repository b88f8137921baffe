"""Train, evaluate and explain a small CoDA-Net on scikit-learn's handwritten digits; nothing is downloaded.

python -m experiments.digits --workdir=runs/digits
"""

from pathlib import Path

from experiments import command_line, job

if __name__ == "__main__":
    command_line.run(job.main, default_config=str(Path(__file__).parent / "configs" / "digits.py"))
