"""assay serve, as a process."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip("fastapi")

import misbehaving
from small_runs import CLASSES, start_assay


@pytest.fixture
def server(finished):
    """A running server and its address."""
    process = start_assay(["serve", finished, "--port", "0", "--name", "trees"])
    address = process.stdout.readline().strip()
    yield process, address
    process.kill()
    process.communicate()


def request(address, body=None, **headers):
    message = urllib.request.Request(address, data=body, headers=headers)
    try:
        with urllib.request.urlopen(message, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def attempts(address, body):
    """Statuses, or None where the connection was closed: it takes a moment until the others are gone."""
    for _ in range(100):
        try:
            yield request(address, body)[0]
        except OSError:
            time.sleep(0.05)
            yield None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, 129)])
def test_it_answers_until_it_is_stopped(server, small_data, number, code):
    """A file gets its label; a request by another host name is refused (fault 53); the exit code is 0, or 129
    where the terminal was closed.
    """
    process, address = server
    assert address.startswith("http://127.0.0.1:")
    image = (small_data.images / "0.png").read_bytes()
    status, found = request(f"{address}/predict", image)
    assert (status, found["label"]) == (200, CLASSES[small_data.truth[0]])
    assert request(f"{address}/v2/models/trees/ready") == (200, {"name": "trees", "ready": True})
    assert request(f"{address}/v2", Host="evil.example")[0] == 421
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert out == ""
    ready = "Model 'trees' is ready. Send an image file with POST /predict; Ctrl-C stops."
    assert err.splitlines() == [ready, *["assay: terminal closed"] * (code == 129)]


def test_sigterm_ends_it_while_decoders_hang(finished):
    """Fault 63: within its time-out, whatever images do."""
    planted = "import assay.serve.app as app, misbehaving; app.decode = misbehaving.decode_or_behave; "
    command = [sys.executable, "-c", f"{planted}from assay.cli.app import main; main()", "serve", finished]
    path = os.pathsep.join([misbehaving.__file__.rpartition("/")[0], *sys.path])
    with subprocess.Popen(
        [*command, "--port", "0", "--timeout", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    ) as process:
        address = process.stdout.readline().strip()
        host, port = address.removeprefix("http://").split(":")
        hanging = [socket.create_connection((host, int(port)), timeout=5) for _ in range(6)]
        for connection in hanging:
            head = f"POST /predict HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 5\r\n\r\n"
            connection.sendall(head.encode() + b"sleep")
        assert request(f"{address}/v2/health/live")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        for connection in hanging:
            connection.close()


def test_idle_connections_keep_nobody_out(server, small_data):
    """Those beyond what the process may hold are closed, and it goes on (fault 57)."""
    process, address = server
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (200, 200))
    host, port = address.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port)), timeout=5) for _ in range(300)]
    assert idle[-1].recv(1) == b""  # closed by the server
    for connection in idle:
        connection.close()
    image = (small_data.images / "0.png").read_bytes()
    assert next(status for status in attempts(f"{address}/predict", image) if status) == 200
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert len(err.splitlines()) == 1


def test_a_place_it_may_not_listen_on_is_refused(assay, finished):
    """An address beyond this machine needs ``--allow-remote``."""
    found = assay("serve", finished, "--host", "0.0.0.0")
    assert found.code == 2
    assert "--allow-remote" in found.err
    assert assay("serve", finished / "nowhere").code == 3
