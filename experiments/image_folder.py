"""Train, evaluate and explain a CoDA-Net on images of one's own: a folder with a subfolder for each class.

python -m experiments.image_folder --config.data_dir=DIR --workdir=runs/mine
"""

from pathlib import Path

from experiments import command_line, job

if __name__ == "__main__":
    command_line.run(job.main, default_config=str(Path(__file__).parent / "configs" / "image_folder.py"))
