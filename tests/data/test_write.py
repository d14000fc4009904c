import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from assay.data.write import make_folder, write_bytes_atomic, write_json, write_text_atomic
from assay.errors import ResourceError, UsageError


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path):
    """The new content takes the place of the old and nothing else is left in the folder."""
    path = tmp_path / ("é" * 127)  # 254 bytes: the name beside it must not be longer
    write_bytes_atomic(path, b"old")
    write_bytes_atomic(path, b"new" * 1_000_000)
    assert path.read_bytes() == b"new" * 1_000_000
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o000, 0o666)])
def test_the_umask_decides_who_may_read(tmp_path, umask, mode):
    """A file has the rights that any new file would have."""
    before = os.umask(umask)
    try:
        write_bytes_atomic(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_text_is_utf_8_and_keeps_bytes_that_are_not(tmp_path):
    """Surrogate escapes are written as the bytes that they stand for."""
    write_text_atomic(tmp_path / "a", "né\udce9\n")
    assert (tmp_path / "a").read_bytes() == b"n\xc3\xa9\xe9\n"


def test_json_is_stable_and_exact(tmp_path):
    """Keys are sorted, numbers keep their digits, and bytes that are no text are escaped."""
    value = {
        "b": [0.1, 1e-300, np.float32(0.5), np.int64(3)],
        "a": {"é\udce9": np.array([[1, 2]])},
        "c": 1 / 3,
    }
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text("utf-8")
    assert text == (
        '{\n "a": {\n  "é\\udce9": [\n   [\n    1,\n    2\n   ]\n  ]\n },\n'
        ' "b": [\n  0.1,\n  1e-300,\n  0.5,\n  3\n ],\n "c": 0.3333333333333333\n}\n'
    )
    assert json.loads(text)["a"] == {"é\udce9": [[1, 2]]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.array([np.nan])])
def test_json_has_no_nan(tmp_path, value):
    """A number that JSON does not have is a bug of the caller, and nothing is written."""
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": value})
    assert names_in(tmp_path) == []


def test_json_takes_plain_values_only(tmp_path):
    """What is neither text, number, list nor dict is refused by its type."""
    with pytest.raises(TypeError, match="expected text, numbers, lists and dicts, got PosixPath"):
        write_json(tmp_path / "a.json", {"x": tmp_path})


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """Without room the message has path and bytes, the old file is whole and no half file stays."""
    path = tmp_path / "labels.csv"
    path.write_bytes(b"good")
    script = (
        "import sys, pathlib\n"
        "from assay.errors import ResourceError\n"
        "from assay.data.write import write_bytes_atomic\n"
        "try: write_bytes_atomic(pathlib.Path(sys.argv[1]), bytes(100_000))\n"
        "except ResourceError as error: print(error)"
    )
    source = Path(sys.modules["assay.data.write"].__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(source)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.stdout == (
        f"cannot write {path}: File too large; it needs 100,000 bytes: make room and run it again\n"
    )
    assert path.read_bytes() == b"good"
    assert names_in(tmp_path) == ["labels.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_a_device_is_written_through_and_may_be_full():
    """A device is never replaced by a file; one that is full is a lack of room."""
    with pytest.raises(
        ResourceError, match="cannot write /dev/full: No space left on device; it needs 3 bytes"
    ):
        write_bytes_atomic(Path("/dev/full"), b"abc")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)
    write_bytes_atomic(Path("/dev/null"), b"abc")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_pipe_is_written_through(tmp_path):
    """A named pipe gets the bytes, and stays a pipe."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_bytes_atomic(pipe, b"abc")
        assert os.read(reader, 9) == b"abc"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    """A folder, a missing folder and a file as folder are named with what the system says."""
    (tmp_path / "file").write_bytes(b"")
    for place, why in [
        ("", "Is a directory"),
        ("none/a", "No such file or directory"),
        ("file/a", "Not a directory"),
    ]:
        with pytest.raises(UsageError, match=rf"cannot write .*: {why}; choose another place"):
            write_bytes_atomic(tmp_path / place, b"x")
    assert names_in(tmp_path) == ["file"]


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    """Ctrl-C while writing removes the half file and keeps the old one."""
    path = tmp_path / "a"
    path.write_bytes(b"good")

    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes_atomic(path, b"new")
    assert (names_in(tmp_path), path.read_bytes()) == (["a"], b"good")


def test_a_closed_pipe_is_left_to_the_caller(tmp_path):
    """A reader that went away is no error of the place."""
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        write_bytes_atomic(Path(f"/proc/self/fd/{writer}"), b"x")
    os.close(writer)


def test_a_folder_is_not_made_where_a_file_is(tmp_path):
    """It is refused in words; one that is there already is left as it is."""
    (tmp_path / "taken").touch()
    with pytest.raises(UsageError, match=r"cannot write .*taken: .*; choose another place"):
        make_folder(tmp_path / "taken")
    make_folder(tmp_path)


def test_a_link_is_replaced(tmp_path):
    """What it named stays as it was: it may be an image."""
    (tmp_path / "image.png").write_bytes(b"pixels")
    (tmp_path / "link").symlink_to(tmp_path / "image.png")
    write_bytes_atomic(tmp_path / "link", b"rows")
    assert (tmp_path / "image.png").read_bytes() == b"pixels"
    assert ((tmp_path / "link").read_bytes(), (tmp_path / "link").is_symlink()) == (b"rows", False)
