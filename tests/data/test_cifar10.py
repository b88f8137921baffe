"""CIFAR-10: download, preparation without TensorFlow, and reading."""

import fcntl
import hashlib
import http.server
import io
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from coda_jax.data import cifar10
from coda_jax.errors import InputError

RECORDS = 4
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def official_files(seed=0):
    """Returns the six files of the official layout by name, with RECORDS random records each."""
    rng = np.random.default_rng(seed)
    files = {}
    for stem in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        records = rng.integers(0, 256, (RECORDS, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        files[f"cifar-10-batches-bin/{stem}.bin"] = records.tobytes()
    return files


def make_archive(files):
    """Returns a tar.gz of `files`, in an order that is not the batches' own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in [("cifar-10-batches-bin/readme.html", b"CIFAR")] + sorted(files.items(), reverse=True):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Server:
    """A local server of one file; `cut` closes the connection half way, `status` is its answer."""

    def __init__(self):
        self.content, self.cut, self.status, self.requests = b"", False, 200, 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests += 1
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(server.content)))
                self.end_headers()
                sent = len(server.content) // 2 if server.cut else len(server.content)
                self.wfile.write(server.content[:sent])

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/cifar-10-binary.tar.gz"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def serve(monkeypatch):
    """Returns a function that serves the given bytes as the official archive."""
    server = Server()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(cifar10, "ARCHIVE_URL", server.url)

    def serve(content):
        server.content = content
        monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", hashlib.sha256(content).hexdigest())
        return server

    yield serve
    server.stop()


def fails(data_dir, *parts):
    """Asserts that `data_sources` raises one line that has all `parts`, and prepares nothing."""
    with pytest.raises(InputError) as caught:
        cifar10.data_sources(str(data_dir))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message
    assert not list(data_dir.glob("cifar10/*"))
    return message


def downloaded(data_dir):
    """Returns what lies in the download directory, apart from the lock."""
    return {path.name for path in (data_dir / "downloads" / "cifar10").iterdir()} - {"lock"}


def assert_holds(source, files, split, stems):
    """Asserts that `source` holds exactly the records of the official `files`, pixel by pixel."""
    records = b"".join(files[f"cifar-10-batches-bin/{stem}.bin"] for stem in stems)
    records = np.frombuffer(records, np.uint8).reshape(-1, 3073)
    examples = {example["id"].decode(): example for example in source}
    assert sorted(examples) == [f"{split}_{i:05d}" for i in range(len(records))]
    for i, record in enumerate(records):
        example = examples[f"{split}_{i:05d}"]
        assert example["label"] == record[0]
        assert example["image"].dtype == np.uint8
        red_green_blue = record[1:].reshape(3, 32, 32)
        np.testing.assert_array_equal(example["image"], np.moveaxis(red_green_blue, 0, -1))


def assert_prepared(data_dir, files):
    train, test, class_names = cifar10.data_sources(str(data_dir))
    assert class_names == CLASS_NAMES
    assert (len(train), len(test)) == (5 * RECORDS, RECORDS)
    assert_holds(train, files, "train", [f"data_batch_{i}" for i in range(1, 6)])
    assert_holds(test, files, "test", ["test_batch"])
    assert [path.name for path in (data_dir / "cifar10").iterdir()] == ["3.0.2"]
    assert downloaded(data_dir) == {"cifar-10-binary.tar.gz"}


def test_downloads_prepares_and_reads_back(serve, tmp_path, capfd):
    files = official_files()
    server = serve(make_archive(files))
    assert_prepared(tmp_path, files)
    archive = tmp_path / "downloads" / "cifar10" / "cifar-10-binary.tar.gz"
    prepared = tmp_path / "cifar10" / "3.0.2"
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        f"Downloading CIFAR-10 (170 MB) from {server.url} to {archive}",
        f"Preparing CIFAR-10 in {prepared}",
    ]
    assert server.requests == 1

    shutil.rmtree(tmp_path / "downloads")
    train, _, _ = cifar10.data_sources(str(tmp_path))
    assert len(pickle.loads(pickle.dumps(train))) == 5 * RECORDS  # Loaders send it to workers.
    assert server.requests == 1
    assert capfd.readouterr() == ("", "")


def test_needs_no_tensorflow_and_tfds_reads_it_by_name(serve, tmp_path, monkeypatch):

    class NoTensorFlow:
        def find_spec(self, name, *args):
            assert name != "tensorflow"

    monkeypatch.setattr(sys, "meta_path", [NoTensorFlow(), *sys.meta_path])
    files = official_files()
    serve(make_archive(files))
    assert_prepared(tmp_path, files)
    sources = tfds.data_source("cifar10", data_dir=tmp_path)
    assert_holds(sources["test"], files, "test", ["test_batch"])
    assert tfds.builder_cls("cifar10").__module__.startswith("tensorflow_datasets.")


def test_images_are_stored_in_the_order_of_tfds(serve, tmp_path):
    # TFDS sorts examples by a hash of their keys; the keys of its own builder are 0, 1, 2, ...
    serve(make_archive(official_files()))
    train, _, _ = cifar10.data_sources(str(tmp_path))
    order = sorted(range(5 * RECORDS), key=tfds.core.hashing.Hasher("train").hash_key)
    assert [example["id"].decode() for example in train] == [f"train_{i:05d}" for i in order]


def test_default_directory_is_made(serve, tmp_path, monkeypatch):
    serve(make_archive(official_files()))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", "~/sets")
    cifar10.data_sources(None)
    assert (tmp_path / "sets" / "cifar10" / "3.0.2").is_dir()


def test_terminal_shows_a_progress_bar(serve, tmp_path, monkeypatch, capsys):
    serve(make_archive(official_files()))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    cifar10.data_sources(str(tmp_path))
    assert "100%|" in capsys.readouterr().err


def test_archive_placed_by_hand_needs_no_server(serve, tmp_path):
    files = official_files()
    content = make_archive(files)
    server = serve(content)
    (tmp_path / "downloads" / "cifar10").mkdir(parents=True)
    (tmp_path / "downloads" / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(content)
    assert_prepared(tmp_path, files)
    assert server.requests == 0


def test_damaged_archive_is_downloaded_again(serve, tmp_path):
    files = official_files()
    server = serve(make_archive(files))
    (tmp_path / "downloads" / "cifar10").mkdir(parents=True)
    (tmp_path / "downloads" / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(b"half")
    assert_prepared(tmp_path, files)
    assert server.requests == 1


def test_wrong_checksum(serve, tmp_path):
    content = make_archive(official_files())
    server = serve(content)
    server.content = other = make_archive(official_files(seed=1))
    hashes = [hashlib.sha256(data).hexdigest() for data in (content, other)]
    fails(tmp_path, server.url, *hashes, "try again")
    assert downloaded(tmp_path) == set()


def test_truncated_archive(serve, tmp_path):
    content = make_archive(official_files())
    serve(content[: len(content) // 2])
    fails(tmp_path, "cannot be read", "cifar-10-binary.tar.gz", "official archive")


def test_not_an_archive(serve, tmp_path):
    serve(b"<html>Welcome to this hotel's network</html>")
    fails(tmp_path, "cannot be read", "cifar-10-binary.tar.gz")


def test_messages_without_control_characters(serve, tmp_path, monkeypatch):
    serve(make_archive(official_files()))
    monkeypatch.setattr(tarfile, "open", lambda path: (_ for _ in ()).throw(OSError("\x1b[31mred\x07\nalert")))
    assert fails(tmp_path, "cannot be read").isprintable()


def test_no_such_file_on_the_server(serve, tmp_path):
    server = serve(b"gone")
    server.status = 404
    fails(tmp_path, server.url, "404", tmp_path / "downloads/cifar10/cifar-10-binary.tar.gz")
    assert downloaded(tmp_path) == set()


def test_no_server(serve, tmp_path):
    server = serve(b"")
    server.stop()
    fails(tmp_path, server.url, tmp_path / "downloads/cifar10/cifar-10-binary.tar.gz", "data_dir")


def test_interrupted_download(serve, tmp_path):
    files = official_files()
    server = serve(make_archive(files))
    server.cut = True
    fails(tmp_path, server.url, "try again")
    assert downloaded(tmp_path) == set()

    (tmp_path / "downloads" / "cifar10" / "tmpk1lled").write_bytes(b"left by a killed download")
    server.cut = False
    assert_prepared(tmp_path, files)


def test_killed_preparation(serve, tmp_path):
    files = official_files()
    server = serve(make_archive(files))
    program = f"""
import os, signal
from coda_jax.data import cifar10

cifar10.ARCHIVE_URL, cifar10.ARCHIVE_SHA256 = {server.url!r}, {cifar10.ARCHIVE_SHA256!r}
examples = cifar10._examples

def examples_and_death(split, content):
    yield from examples(split, content)
    if split == "test":
        os.kill(os.getpid(), signal.SIGKILL)

cifar10._examples = examples_and_death
cifar10.data_sources({str(tmp_path)!r})
"""
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", program], cwd=root, check=False)
    assert killed.returncode == -signal.SIGKILL
    (leftover,) = (tmp_path / "cifar10").iterdir()
    assert leftover.name.startswith("incomplete.")
    assert_prepared(tmp_path, files)  # Also asserts that the leftover is gone.
    assert server.requests == 1


@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_failed_preparation(serve, tmp_path, monkeypatch, error):
    files = official_files()
    serve(make_archive(files))

    def disk_full(split, content):
        raise error("No space left\non device")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(cifar10, "_examples", disk_full)
        fails(tmp_path, tmp_path, "No space left on device", "another data_dir")
    assert_prepared(tmp_path, files)


def test_a_second_run_waits_for_the_first(serve, tmp_path):
    server = serve(make_archive(official_files()))
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    cifar10.data_sources(str(first))
    (second / "downloads" / "cifar10").mkdir(parents=True)
    results = []
    with open(second / "downloads" / "cifar10" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = threading.Thread(target=lambda: results.append(cifar10.data_sources(str(second))))
        run.start()
        time.sleep(0.5)
        assert run.is_alive()
        shutil.copytree(first / "cifar10", second / "cifar10")
    run.join()
    assert len(results[0][0]) == 5 * RECORDS
    assert server.requests == 1


def test_missing_data_dir(tmp_path):
    fails(tmp_path / "sets", tmp_path / "sets", "create it")
    assert not (tmp_path / "sets").exists()


def test_data_dir_that_cannot_be_written(tmp_path):
    (tmp_path / "downloads").write_text("a file where the directory goes")
    fails(tmp_path, tmp_path, "another data_dir")


@pytest.fixture
def prepared(serve, tmp_path):
    """Returns the directory of a small data set, prepared in `tmp_path`."""
    serve(make_archive(official_files()))
    cifar10.data_sources(str(tmp_path))
    return tmp_path / "cifar10" / "3.0.2"


def test_other_file_format(prepared, tmp_path):
    info = prepared / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(InputError, match="is stored as tfrecord, not as array_record: move it"):
        cifar10.data_sources(str(tmp_path))


def test_class_names_are_those_of_the_prepared_data(prepared, tmp_path):
    names = [f"class {i}" for i in range(10)]
    (prepared / "label.labels.txt").write_text("\n".join(names))
    assert cifar10.data_sources(str(tmp_path))[2] == tuple(names)


def empty(directory):
    for path in directory.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        empty,
        lambda directory: (directory / "features.json").unlink(),
        lambda directory: next(directory.glob("cifar10-test.array_record*")).unlink(),
        lambda directory: next(directory.glob("cifar10-train.array_record*")).write_bytes(b""),
    ],
    ids=["empty", "no features", "no test file", "empty train file"],
)
def test_damaged_data_set(prepared, tmp_path, damage):
    damage(prepared)
    with pytest.raises(InputError) as caught:
        cifar10.data_sources(str(tmp_path))
    assert f"{prepared} is not a readable CIFAR-10 data set" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_of_cifar10(cifar10_dir):
    train, test, class_names = cifar10.data_sources(str(cifar10_dir))
    assert (len(train), len(test)) == (50_000, 10_000)
    assert class_names == CLASS_NAMES
    for source in (train, test):
        example = source[len(source) - 1]
        assert (example["image"].shape, example["image"].dtype) == ((32, 32, 3), np.uint8)
        assert isinstance(example["label"], int)
        assert 0 <= example["label"] < 10
        assert isinstance(example["id"], bytes)
