import socket

import pytest

pytest.importorskip("gradio", reason="needs Gradio: pip install '.[app]'")


def test_mistakes(command, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, line in (
            (("dgits",), "there is no run in dgits"),
            (("digits", f"--examples={tmp_path / 'none'}"), f"there is no folder {tmp_path / 'none'}"),
            (("digits", f"--port={port}"), f"port {port} of 127.0.0.1 cannot be had: choose another"),
        ):
            status, out, err = command("app", *arguments)
            assert (status, out, err.count("\n")) == (1, "", 1) and err.startswith(f"error: {line}"), err
