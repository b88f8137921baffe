"""What a user can get wrong on the command lines, and the line that answers it."""

import json
import shutil

import pytest
from PIL import Image

from coda_jax.data import DatasetInfo, Preprocessing, load
from coda_jax.data.datasets import DATASETS
from coda_jax.networks.architectures import make_model
from coda_jax.networks.config_file import save_config
from coda_jax.training import state
from coda_jax.training.checkpoints import Checkpoints
from coda_jax.training.optimizer import make_optimizer
from experiments.configs import digits
from tests.experiments.processes import CIFAR10, measure

SECONDS = 8  # Of CPU time, beside the imports; the machine may be busy.


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """The directory of a run on digits that ended before its first step, with every file that a run may have."""
    workdir = tmp_path_factory.mktemp("untrained") / "run"
    config = digits.get_config().to_dict()
    save_config(workdir, config, load("digits").info)
    optimizer = make_optimizer("adam", lambda step: 2e-3, 0.0)
    Checkpoints(workdir / "checkpoints").save(state.create(make_model(config["model"]), optimizer, (8, 8), seed=0))
    (workdir / "metrics.jsonl").write_text('{"step": 0, "loss": 0.5, "accuracy": 0.1, "epoch": 0.0}\n')
    (workdir / "tensorboard").mkdir()
    return workdir


def refused(directory, experiment, arguments, message):
    """Assert that a command is answered by one line with the message, soon, and changes nothing in the directory.

    TMP stands for the directory in the arguments and the message.
    """
    before = contents(directory)
    arguments = [argument.replace("TMP", str(directory)) for argument in arguments]
    status, _, err, seconds = measure(*arguments, experiment=experiment)
    assert "Traceback" not in err
    *notices, line = err.splitlines()
    assert (status, line[:7]) == (1, "error: "), err
    assert all(notice.startswith(("Downloading CIFAR-10", "2 classes (a, b): ")) for notice in notices), err
    assert message.replace("TMP", str(directory)) in line
    assert seconds < SECONDS
    assert contents(directory) == before


def contents(directory):
    return {path: path.read_bytes() if path.is_file() else None for path in directory.rglob("*")}


# The experiment, its arguments, and words of the line; TMP is a directory with nothing in it.
FLAGS = [
    ("cifar10", ["--workdir=TMP/run"], "--config=FILE:NAME is missing"),
    ("cifar10", ["--workdir=TMP/run", CIFAR10 + "5"], "no configuration '5L-XS-CoDA-SQ-1005': the nearest are 5L-XS"),
    ("cifar10", ["--workdir=TMP/run", "--config=nowhere.py:a"], "there is no file nowhere.py"),
    ("cifar10", ["--workdir=TMP/run", "--config=experiments/configs/cifar10.py"], "holds several configurations: name"),
    ("cifar10", ["--workdir=TMP/run", "--config=README.md"], "README.md is not a Python file with a function get_conf"),
    ("cifar10", ["--workdir=TMP/run", CIFAR10, "--config.batchsize=8"], "'batchsize' could be batch_size"),
    ("cifar10", ["--workdir=TMP/run", CIFAR10, "--config.model.rank=8"], "no key 'model.rank': 'rank' could be ranks"),
    ("cifar10", ["--workdir=TMP/run", CIFAR10, "--config.batch_size=many"], "--config.batch_size=many"),
    ("cifar10", [CIFAR10], "--workdir"),
    # Before anything is downloaded to TMP.
    ("cifar10", ["--workdir=TMP/run", CIFAR10, "--config.data_dir=TMP", "--config.decay=0"], "decay must be above 0"),
    (
        "cifar10",
        ["--workdir=TMP/run", CIFAR10, "--config.data_dir=TMP", "--config.batch_size=0"],
        "batch_size must be at least 1",
    ),
    ("digits", [], "--workdir"),
    ("job", ["--workdir=TMP/run"], "--config=FILE:NAME is missing"),
    ("digits", ["--workdir="], "--workdir=DIR is missing"),
    ("digits", ["--workdir=~nobody-of-that-name/run"], "there is no such home directory"),
    ("digits", ["--workdi=TMP/run"], "Unknown command line flag 'workdi'. Did you mean: workdir"),
    ("digits", ["--workdir=TMP/run", "--mode=exlpain"], "value should be one of <train|explain>"),
    ("digits", ["--workdir=TMP/run", "more"], "unexpected argument 'more'"),
    ("digits", ["--workdir=TMP/run", "--config=experiments"], "there is no file experiments"),
    ("digits", ["--workdir=TMP/run", "--config="], "--config=FILE:NAME is missing"),
    (
        "digits",
        ["--workdir=TMP/run", "--config=experiments/configs/digits.py:small"],
        "get_config raises TypeError: get_config() takes 0 positional arguments but 1 was given",
    ),
    ("digits", ["--workdir=TMP/run", "--process_id=0"], "--process_id is not enough: give --coordinator, --num_proces"),
    (
        "digits",
        ["--workdir=TMP/run", "--coordinator=localhost:1", "--num_processes=2", "--process_id=2"],
        "process_id is 2, but must be less than 2",
    ),
    (
        "digits",
        ["--workdir=TMP/run", "--coordinator=localhost", "--num_processes=2", "--process_id=1"],
        "coordinator is 'localhost', but must be HOST:PORT, such as localhost:12345",
    ),
    ("digits", ["--workdir=TMP/run", "--num_processes=0"], "num_processes"),
    ("digits", ["--workdir=TMP/run", "--config.accumulation=0"], "accumulation must be at least 1"),
    ("digits", ["--workdir=TMP/run", "--config.accumulation=3"], "times 3 accumulated parts"),
    ("digits", ["--workdir=TMP/run", "--config.penalty=-0.5"], "penalty must be at least 0, not -0.5"),
    ("digits", ["--workdir=TMP/run", "--config.penalty=nan"], "penalty must be finite, not nan"),
    (
        "digits",
        ["--workdir=TMP/run", "--config.on_device=True", "--config.randaugment=9"],
        "with on_device images are mirrored and cropped only: use randaugment=0, or on_device=False",
    ),
    ("interpretability", [], "--workdir"),
    ("interpretability", ["--workdir="], "--workdir=DIR is missing"),
    ("interpretability", ["--workdir=TMP/a,,TMP/b", "--out=TMP/out"], "--workdir=DIR is missing"),
    ("interpretability", ["--workdir=TMP/a,TMP/b"], "several runs need --out=DIR"),
    ("interpretability", ["--workdir=TMP/a,TMP/b", "--out="], "--out=DIR is missing"),
    ("interpretability", ["--workdir=TMP/run"], "there is no run in TMP/run"),
    ("interpretability", ["--workdir=TMP/run", "--methods="], "no method is named: there are contributions, "),
    ("interpretability", ["--workdir=TMP/run", "--methods=grad_cam"], "no method 'grad_cam': did you mean gradcam? T"),
    ("interpretability", ["--workdir=TMP/run", "--methods=xyz"], "no method 'xyz': there are contributions, "),
    ("interpretability", ["--workdir=TMP/run", "--metrics="], "no metric is named: there are localisation_3x3, "),
    ("interpretability", ["--workdir=TMP/run", "--metrics=localization_3x3"], "did you mean localisation_3x3? "),
    ("interpretability", ["--workdir=TMP/run", "--grids=0"], "--grids=0"),
    ("interpretability", ["--workdir=TMP/run", "--images=many"], "--images=many"),
    ("interpretability", ["--workdir=TMP/run", "--method=lime"], "flag 'method'. Did you mean: methods"),
    ("interpretability", ["--workdir=TMP/run", "more"], "unexpected argument 'more'"),
]


@pytest.mark.parametrize(("experiment", "arguments", "message"), FLAGS)
def test_flags(tmp_path, experiment, arguments, message):
    refused(tmp_path, experiment, arguments, message)


*OTHERS, LAST = DATASETS
VALUES = [
    ("dataset=mnist", f"there is no data set 'mnist': choose {', '.join(OTHERS)} or {LAST}"),
    ("dataset=", "there is no data set ''"),
    ("image_size=0", "image_size must be at least 1, not 0"),
    ("image_size=8", "image_size is 8, but the images of digits have a size of their own: use None"),
    ("init=nowhere", "there is no run in nowhere, and no network 'nowhere' comes with coda_jax: there are cifar10"),
    ("seed=-1", "seed must be at least 0, not -1"),
    ("seed=4294967296", "seed must be below 2³², not 4294967296"),
    ("batch_size=0", "batch_size must be at least 1, not 0"),
    ("batch_size=-3", "batch_size must be at least 1, not -3"),
    ("batch_size=2.5", "--config.batch_size=2.5"),
    ("batch_size=1000000000", "batch_size is 1000000000, but there are 1437 training images"),
    ("num_epochs=0", "num_epochs must be at least 1, not 0"),
    ("min_steps=-1", "min_steps must be at least 0, not -1"),
    ("num_steps=0", "num_steps must be at least 1, not 0"),
    ("num_steps=-5", "num_steps must be at least 1, not -5"),
    ("learning_rate=-1", "learning_rate must be at least 0, not -1.0"),
    ("learning_rate=nan", "learning_rate must be finite, not nan"),
    ("learning_rate=inf", "learning_rate must be finite, not inf"),
    ("decay=0", "decay must be above 0, not 0.0"),
    ("decay=-1.5", "decay must be above 0, not -1.5"),
    ("decay=nan", "decay must be finite, not nan"),
    ("decay_epochs=0", "decay_epochs must be at least 1, not 0"),
    ("flip=maybe", "--config.flip=maybe"),
    ("crop_padding=-1", "crop_padding must be at least 0, not -1"),
    ("crop_padding=100000", "crop_padding is 100000, but must be at most the images' 8 pixels"),
    ("crop_size=9", "crop_size is 9, but must be at most the images' 8 pixels"),
    ("randaugment=-1", "randaugment must be at least 0, not -1"),
    ("randaugment=11", "randaugment must be at most 10, not 11"),
    ("num_workers=-1", "num_workers must be at least 0, not -1"),
    ("on_device=2", "--config.on_device=2"),
    ("log_every=0", "log_every must be at least 1, not 0"),
    ("checkpoint_every=0", "checkpoint_every must be at least 1, not 0"),
    ("model=3", "--config.model=3"),
    ("model.channels=()", "lengths are: channels 0, ranks 3"),
    ("model.channels=16", "lengths are: channels 1, ranks 3"),
    ("model.channels=(16,32,9)", "the last of channels is 9, but the data has 10 classes"),
    ("model.channels=(16,'a',10)", "channels must be whole numbers of at least 1, one a layer, not (16, 'a', 10)"),
    ("model.ranks=(0,16,16)", "ranks must be whole numbers of at least 1"),
    ("model.kernel_sizes=(3,2.5,1)", "kernel_sizes must be whole numbers of at least 1"),
    ("model.kernel_sizes=(30,3,1)", "a kernel of 30 does not fit into 8 pixels padded by 1"),
    ("model.strides=(1,)", "strides 1, paddings 3"),
    ("model.paddings=(1,-1,0)", "paddings must be whole numbers of at least 0"),
    ("model.norm=l3", "norm is 'l3', but must be one of sq, l2"),
    ("model.temperature=0", "temperature must be above 0, not 0.0"),
    ("model.temperature=inf", "temperature must be finite, not inf"),
    ("model.logit_bias=nan", "logit_bias must be finite, not nan"),
    ("model.dtype=float16", "dtype is 'float16', but must be one of float32, bfloat16"),
    ("model.dtype=half", "dtype is "),
    ("model.dtype=float64", "dtype is float64, which JAX computes with only where JAX_ENABLE_X64=1 is set"),
]


@pytest.mark.parametrize(("value", "message"), VALUES)
def test_values(tmp_path, value, message):
    refused(tmp_path, "digits", ["--workdir=TMP/run", f"--config.{value}"], message)


GOOD = "from experiments.configs import digits\ndef get_config():\n    config = digits.get_config().to_dict()\n"
CONFIG_FILES = [
    ("x = 1", "is not a Python file with a function get_config"),
    ("def (", "is not a Python file"),
    ("\0", "is not a Python file"),
    ("import no_such_module", "raises ModuleNotFoundError: No module named 'no_such_module'"),
    ("def get_config(): return 1 / 0", "get_config raises ZeroDivisionError: division by zero"),
    ("def get_config(name): return name", "get_config raises TypeError: get_config() missing 1 required"),
    ("def get_config(): return {}", "get_config must return a ConfigDict, not dict"),
    (GOOD + "    del config['seed']\n    return ConfigDict(config)", "too many or missing: seed"),
    (GOOD + "    config['sed'] = 1\n    return ConfigDict(config)", "too many or missing: sed"),
    (
        GOOD + "    config['batch_size'] = '8'\n    return ConfigDict(config)",
        "batch_size is '8', but must be of type int",
    ),
    (GOOD + "    config['flip'] = 1\n    return ConfigDict(config)", "flip is 1, but must be of type bool"),
    (GOOD + "    config['seed'] = None\n    return ConfigDict(config)", "seed is None, but must be of type int"),
    (GOOD + "    config['model'] = 3\n    return ConfigDict(config)", "model is 3, but must be of type ConfigDict"),
    (
        GOOD + "    config['model']['width'] = 3\n    return ConfigDict(config)",
        "the configuration's model: CoDANet.__init__() got an unexpected keyword argument 'width'",
    ),
    (GOOD + "    config['model'] = {}\n    return ConfigDict(config)", "model: CoDANet.__init__() missing 5 required"),
]


@pytest.mark.parametrize(("content", "message"), CONFIG_FILES)
def test_configuration_files(tmp_path, content, message):
    (tmp_path / "mine.py").write_text("from ml_collections import ConfigDict\n" + content)
    refused(tmp_path, "digits", ["--workdir=TMP/run", "--config=TMP/mine.py"], message)


@pytest.mark.parametrize(
    ("workdir", "message"),
    [
        ("TMP/file", "cannot write to TMP/file/checkpoints: TMP/file is not a directory"),
        ("TMP/file/run", "cannot write to TMP/file/run/checkpoints: TMP/file is not a directory"),
        ("/proc/nowhere/run", "cannot write to /proc/nowhere/run: "),
        ("TMP/" + 300 * "a", "File name too long"),
    ],
)
def test_directories_that_cannot_be_written(tmp_path, workdir, message):
    (tmp_path / "file").write_text("a file where the directory goes")
    refused(tmp_path, "digits", [f"--workdir={workdir}"], message)


def edit(**changes):
    """A function that changes the configuration in a directory; None deletes a key."""

    def damage(run):
        config = json.loads((run / "config.json").read_text()) | changes
        (run / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))

    return damage


def write(name, content):
    """A function that puts a file, or for None a directory, in the place of what a run directory has there."""

    def damage(run):
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if content is None else path.write_text(content)

    return damage


def truncate_checkpoint(run):
    for path in (run / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])


def empty_checkpoint(run):
    for path in list((run / "checkpoints").rglob("*")):
        if path.is_file():
            path.unlink()


def without_checkpoint(run):
    shutil.rmtree(run / "checkpoints")


MODEL = digits.get_config().model.to_dict()
TRAIN, EXPLAIN = ("digits", []), ("digits", ["--mode=explain"])
MEASURE = ("interpretability", ["--methods=gradient", "--metrics=completeness"])
RESULT = "interpretability/completeness-128/gradient.json"

# What happened to a finished run, the commands that find it, and words of the line; RUN is the directory.
RUNS = [
    (write("config.json", ""), (TRAIN, EXPLAIN, MEASURE), "RUN/config.json is damaged (Expecting value"),
    (write("config.json", '{"dataset": "dig'), (TRAIN, EXPLAIN, MEASURE), "RUN/config.json is damaged (Unterminated"),
    (write("config.json", "[1]"), (TRAIN, EXPLAIN, MEASURE), 'RUN/config.json is damaged (it has no "model")'),
    (write("config.json", None), (TRAIN, EXPLAIN, MEASURE), "RUN/config.json is damaged ([Errno 21] Is a directory"),
    (edit(model=None), (TRAIN, EXPLAIN, MEASURE), 'RUN/config.json is damaged (it has no "model")'),
    (edit(model={"norm": "sq"}), (EXPLAIN, MEASURE), "missing 5 required positional arguments: 'channels'"),
    (edit(model=MODEL | {"width": 3}), (EXPLAIN, MEASURE), "unexpected keyword argument 'width'"),
    (edit(model=MODEL | {"temperature": "hot"}), (EXPLAIN, MEASURE), "temperature must be a number, not 'hot'"),
    (edit(model=MODEL | {"temperature": 5.0}), (TRAIN,), "model.temperature is 10.0 (there 5.0); use the same values"),
    (edit(decay_epochs=None), (TRAIN,), "another configuration: decay_epochs is 5 (there 30)"),  # The default.
    (edit(dataset=None), (EXPLAIN, MEASURE), "RUN says nothing of its data, as its config.json"),
    (edit(dataset="mnist"), (EXPLAIN, MEASURE), "there is no data set 'mnist'"),
    (
        edit(model=MODEL | {"ranks": [4, 16, 16]}),
        (EXPLAIN, MEASURE),
        "RUN/checkpoints/0 is of another architecture: its layers_0/A has shape (3, 3, 6, 16, 16), but this network's",
    ),
    (without_checkpoint, (EXPLAIN, MEASURE), "there is no checkpoint in RUN/checkpoints: train first"),
    (
        truncate_checkpoint,
        (TRAIN, EXPLAIN, MEASURE),
        "no checkpoint in RUN/checkpoints can be read: that of step 0 is damaged",
    ),
    (
        empty_checkpoint,
        (TRAIN, EXPLAIN, MEASURE),
        "no checkpoint in RUN/checkpoints can be read: that of step 0 is damaged",
    ),
    (write("checkpoints", ""), (TRAIN, EXPLAIN), "cannot write to RUN/checkpoints: "),
    (write("metrics.jsonl", "{half\n"), (TRAIN,), "RUN/metrics.jsonl is damaged (line 1 is no record)"),
    (write("metrics.jsonl", '{"loss": 1}\n'), (TRAIN,), "RUN/metrics.jsonl is damaged (line 1 is no record)"),
    (write("metrics.jsonl", None), (TRAIN,), "cannot write to RUN/metrics.jsonl: it is a directory"),
    (write("tensorboard", ""), (TRAIN,), "cannot write to RUN/tensorboard: "),
    (write("contributions.png", None), (TRAIN, EXPLAIN), "cannot write to RUN/contributions.png: it is a directory"),
    (write("interpretability", ""), (MEASURE,), "cannot write to RUN/interpretability: "),
    (
        write("interpretability/completeness-128", ""),
        (MEASURE,),
        "cannot write to RUN/interpretability/completeness-128",
    ),
    (write(RESULT, "{half"), (MEASURE,), f"RUN/{RESULT} is damaged (Expecting"),
    (write(RESULT, "[]"), (MEASURE,), f"RUN/{RESULT} is damaged"),
    (write(RESULT, None), (MEASURE,), f"RUN/{RESULT} is damaged"),
]


@pytest.mark.parametrize(
    ("damage", "command", "message"),
    [(damage, command, message) for damage, commands, message in RUNS for command in commands],
)
def test_run_directories(untrained, tmp_path, damage, command, message):
    shutil.copytree(untrained, tmp_path / "run")
    damage(tmp_path / "run")
    experiment, arguments = command
    refused(tmp_path, experiment, ["--workdir=TMP/run", *arguments], message.replace("RUN", "TMP/run"))


MEASUREMENTS = [
    (
        ["--methods=deeplift", "--metrics=completeness"],
        "deeplift cannot explain this network for completeness: CoDANet has no activation to replace",
    ),
    (["--methods=occlusion_9", "--metrics=pixel_removal"], "occlusion_9 cannot explain this network for pixel_removal"),
    (["--grids=500"], "the number of grids of 9 classes drawn with seed 0 can be 0, not 500"),
    (["--out=TMP/file", "--workdir=TMP/run,TMP/other"], "cannot write to TMP/file"),
    (["--out=TMP/out", "--workdir=TMP/run,TMP/run"], "TMP/run is named twice"),
    (["--out=TMP/out", "--workdir=TMP/run,TMP/nowhere"], "there is no run in TMP/nowhere"),
]


@pytest.mark.parametrize(("arguments", "message"), MEASUREMENTS)
def test_measurements(untrained, tmp_path, arguments, message):
    (tmp_path / "file").write_text("a file where the directory goes")
    for name in ("run", "other"):
        shutil.copytree(untrained, tmp_path / name)
    edit(model=MODEL | {"temperature": 5.0})(tmp_path / "other")
    refused(tmp_path, "interpretability", ["--workdir=TMP/run", *arguments], message)


ARCHIVE = "data/downloads/cifar10/cifar-10-binary.tar.gz"
BY_HAND = "place the archive by hand at TMP/" + ARCHIVE
DATA = [
    (None, "TMP/data is not a directory: create it to have CIFAR-10 prepared there"),
    ("data", "TMP/data is not a directory"),
    ("data/cifar10", "cannot prepare CIFAR-10 in TMP/data"),
    ("data/cifar10/3.0.2", "TMP/data/cifar10/3.0.2 is not a readable CIFAR-10 data set"),
    ("data/cifar10/3.0.2/dataset_info.json", "TMP/data/cifar10/3.0.2 is not a readable CIFAR-10 data set"),
    ("data/downloads", "cannot prepare CIFAR-10 in TMP/data"),
    (ARCHIVE, BY_HAND),
    ("data/downloads/cifar10/notes.txt", BY_HAND),
]


@pytest.mark.parametrize(("file", "message"), DATA)
def test_data_directories(tmp_path, file, message):
    if file is not None:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("no data")
        if file.startswith("data/downloads/"):
            (tmp_path / "data/downloads/cifar10/lock").touch()  # Stays for other runs that prepare the same data.
    refused(tmp_path, "cifar10", ["--workdir=TMP/run", CIFAR10, "--config.data_dir=TMP/data"], message)


@pytest.mark.parametrize(
    ("experiment", "config", "message"),
    [
        (
            "tiny_imagenet",
            "9L-M-CoDA-SQ-1000",
            "fetched by hand: download http://cs231n.stanford.edu/tiny-imagenet-200",
        ),
        ("imagenet", "9L-L-CoDA-SQ-100000", "fetched by hand: register at https://image-net.org/download-images"),
    ],
)
def test_archives_that_are_fetched_by_hand(tmp_path, experiment, config, message):
    config = f"--config=experiments/configs/{experiment}.py:{config}"
    refused(tmp_path, experiment, ["--workdir=TMP/run", config, "--config.data_dir=TMP"], message)


# What is in the folder TMP/images, whose classes a and b have five images each; flags; and words of the line.
FOLDERS = [
    (None, ["--config.data_dir=TMP/nowhere"], "data_dir is TMP/nowhere, but there is no such folder"),
    (None, ["--config.data_dir=~nobody-of-that-name/x"], "there is no such home directory"),
    (None, ["--config.data_dir=TMP/images/a"], "TMP/images/a must have a subfolder of images for each of two or more"),
    ("empty/", [], "TMP/images/empty has 0 images, but needs 2 at least"),
    ("train/c/", [], "TMP/images/train must have a subfolder of images for each of two or more classes, but only c is"),
    (None, ["--config.image_size=0"], "image_size must be at least 1, not 0"),
    (None, ["--config.image_size=1000000000"], "image_size must be at most 4096, not 1000000000"),
    (None, ["--config.image_size=2"], "a kernel of 4 does not fit into 1 pixels padded by 1"),
    (None, ["--config.model.channels=(16,32,32,64,3)"], "the last of channels is 3, but the data has 2 classes"),
    (None, ["--config.model.channels=()"], "lengths are: channels 0, ranks 5"),
    (None, [], "batch_size is 32, but there are 8 training images"),
    (
        "a/2.png",
        [],
        "TMP/images/a/2.png: not an image that Pillow can read: put back an undamaged copy, or remove the f",
    ),
]


@pytest.fixture
def images(tmp_path):
    """A folder with two classes of five images."""
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (9, 7)).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.parametrize(("added", "arguments", "message"), FOLDERS)
def test_folders_of_images(images, tmp_path, added, arguments, message):
    if added is not None and added.endswith("/"):
        (images / added).mkdir(parents=True)
    elif added is not None:
        (images / added).write_text("no image")
    arguments = ["--workdir=TMP/run", "--config.data_dir=TMP/images", *arguments]
    refused(tmp_path, "image_folder", arguments, message)


def test_a_folder_is_to_be_named(tmp_path):
    refused(tmp_path, "image_folder", ["--workdir=TMP/run"], "data_dir is missing: name a folder that has a su")


def test_a_run_does_not_go_on_with_other_classes(images, tmp_path):
    save_config(tmp_path / "run", {"model": {}}, DatasetInfo(("a", "b"), Preprocessing(64, 64)))
    (images / "b").rename(images / "c")
    arguments = ["--workdir=TMP/run", "--config.data_dir=TMP/images", "--config.batch_size=8"]
    refused(tmp_path, "image_folder", arguments, "holds a run on other classes than the data has now (new: c;")
