"""The list of commands, and how they end."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
from small_runs import run_assay, start_assay

from assay import __version__, errors
from assay.cli import app as application
from assay.cli import endings
from assay.cli.app import main


def codes() -> dict[str, int]:
    return {
        name: error.exit_code
        for name, error in vars(errors).items()
        if isinstance(error, type) and issubclass(error, errors.AssayError)
    }


def test_the_exit_codes_are_these():
    """Scripts rely on them."""
    assert endings.SKIPPED == 4
    assert codes() == {
        "AssayError": 1,
        "UsageError": 2,
        "MissingExtraError": 2,
        "OtherRunError": 2,
        "DataError": 3,
        "LabelError": 3,
        "TableError": 3,
        "ModelError": 3,
        "GateError": 5,
        "ResourceError": 6,
        "BusyError": 7,
    }


@pytest.fixture
def ending_with(assay, monkeypatch):
    """What a command says and ends with when its work raises this."""

    def give(error, command="noise"):
        def work(*arguments):
            raise error

        monkeypatch.setattr(application, "_invoke", work)
        return assay(*command.split())

    return give


FULL, GRAPHICS = f"assay: {endings.OUT_OF_MEMORY}\n", f"assay: {endings.OUT_OF_GPU_MEMORY}\n"


def while_importing(error):
    """What becomes of an error while a module of C++ is loaded."""
    failed = ImportError("initialization failed")
    failed.__cause__ = error
    return failed


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.DataError("expected x, got y"), 3, "assay: expected x, got y\n"),
        (errors.BusyError("held"), 7, "assay: held\n"),
        (KeyboardInterrupt(), 130, "assay: interrupted\n"),
        (SystemExit(143), 143, "assay: terminated\n"),
        (SystemExit(None), 0, ""),
        (SystemExit(3), 3, ""),
        (SystemExit("words"), 1, ""),
        (MemoryError(), 6, FULL),
        (RuntimeError("CUDA out of memory."), 6, GRAPHICS),
        (while_importing(KeyboardInterrupt()), 130, "assay: interrupted\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            6,
            "assay: no room to write: No space left on device\n",
        ),
    ],
)
def test_each_end_has_its_code_and_its_words(ending_with, error, code, message):
    """What was expected to happen is said in one line, without a traceback."""
    noisy = ending_with(error)
    assert (noisy.code, noisy.err) == (code, message)


@pytest.mark.parametrize("command", ["run", "run --overwrite", "demo", "predict out -o a.csv"])
def test_a_command_that_resumes_says_so(ending_with, command):
    """After an interruption the same command goes on."""
    noisy = ending_with(KeyboardInterrupt(), command)
    assert noisy.err == "assay: interrupted; the same command resumes\n"


@pytest.mark.parametrize("error", [ValueError("surprise"), OSError(errno.EIO, "surprise")])
def test_a_bug_is_shown_whole(ending_with, error):
    """What nobody expected ends with 1, its traceback and a line that asks to report it."""
    noisy = ending_with(error)
    assert noisy.code == 1
    lines = noisy.err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "surprise" in lines[-2]
    assert lines[-1] == "assay: this is a bug in assay; please report it with the lines above"


def test_a_wrong_command_is_refused_with_the_right_one(assay):
    """A slip is wrong usage, and what was probably meant is said."""
    noisy = assay("nosie")
    assert (noisy.code, noisy.out) == (2, "")
    assert noisy.err == "assay: No such command 'nosie'. Did you mean 'noise'?; see assay -h\n"


def test_the_version_is_said(assay):
    """On stdout, with 0."""
    noisy = assay("--version")
    assert (noisy.code, noisy.out, noisy.err) == (0, f"assay {__version__}\n", "")


def test_without_a_command_the_help_is_shown(assay):
    """A newcomer who types the name alone is told what there is."""
    noisy = assay()
    assert noisy.code == 0
    assert noisy.out == assay("-h").out
    assert "Start with: assay demo" in noisy.out


def test_main_exits_with_the_code(monkeypatch, small_data):
    """The console script hands its exit code to the shell."""
    monkeypatch.setattr(sys.stdout, "reconfigure", lambda **_: None, raising=False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as end:
            main(["noise", str(small_data.images)])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert end.value.code == 2


def learning(small_data, tmp_path, seconds):
    """A run in a process of its own that has begun to learn heads which take this long."""
    begun = tmp_path / "begun"
    slow = {"SLOW_HEAD_S": str(seconds), "SLOW_HEAD_BEGUN": str(begun)}
    process = start_assay(small_data.command(tmp_path / "out"), env=slow)
    give_up = time.monotonic() + 60
    while not begun.exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_ends_a_run_in_one_line(small_data, tmp_path, number, code, word):
    """Ctrl-C and a polite kill have the exit codes of shells, no traceback, and leave a run to resume."""
    process = learning(small_data, tmp_path, seconds=1)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, "")
    assert err.splitlines()[-1] == f"assay: {word}; the same command resumes"
    assert "Traceback" not in err
    assert json.loads((tmp_path / "out" / "run.json").read_text())["status"] == "running"


@pytest.mark.slow
def test_a_second_signal_ends_at_once(small_data, tmp_path):
    """Who presses Ctrl-C twice does not wait for what has begun."""
    process = learning(small_data, tmp_path, seconds=60)
    give_up = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < give_up:
        # Two that arrive before the process wakes are one.
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    _, err = process.communicate(timeout=1)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "assay: ended at once"


@pytest.mark.slow
def test_a_held_folder_ends_with_7(assay, small_data, tmp_path):
    """A second run on the folder of a running one is refused with the number of its process."""
    process = learning(small_data, tmp_path, seconds=20)
    try:
        noisy = assay(*small_data.command(tmp_path / "out", "--quiet"))
    finally:
        process.kill()
        process.communicate()
    assert noisy.code == 7
    assert noisy.err == (
        f"assay: {tmp_path / 'out'}: another run (process {process.pid}) holds this folder; "
        "wait for it, or name another folder with --out\n"
    )


@pytest.mark.slow
def test_a_full_disk_ends_with_6_and_the_run_goes_on(assay, small_data, finished, tmp_path):
    """Without room for features the message says how much is needed; with room, the bytes are the same."""
    command = small_data.command(tmp_path / "out", "--quiet", "--cache", str(tmp_path / "cache"))

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    full = run_assay(command, preexec_fn=limited)
    assert full.returncode == 6
    assert full.stderr.startswith(f"assay: cannot write {tmp_path / 'cache'}")
    assert "bytes; free disk space" in full.stderr
    assert assay(*command).code == 0
    for name in ("labels.csv", "noise.json", "model/model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize("terminal", ["xterm-256color", "dumb"])
def test_a_terminal_without_colours_has_none(finished, small_data, tmp_path, terminal):
    """With NO_COLOR the bar has no colour, and a dumb terminal gets no bar at all."""
    pty = pytest.importorskip("pty", reason="there are no terminals to open here")
    leader, follower = pty.openpty()
    process = start_assay(
        ["predict", finished, small_data.images, "-o", tmp_path / "rows.csv"],
        stderr=follower,
        env={"TERM": terminal, "NO_COLOR": "1"},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(leader)
    process.communicate(timeout=30)
    assert process.returncode == 0
    colours = [code for code in shown.split(b"\x1b[")[1:] if code.lstrip(b"0123456789;")[:1] == b"m"]
    assert [code for code in colours if not code.startswith((b"0m", b"m", b"1m", b"2m"))] == []
    if terminal == "dumb":
        assert b"\x1b" not in shown


def test_the_module_is_the_command(small_data):
    """``python -m assay`` is ``assay``."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "assay", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"assay {__version__}\n")


def test_shells_can_complete(monkeypatch):
    """The completion that a shell asks for names the commands."""
    env = {"_ASSAY_COMPLETE": "complete_bash", "COMP_WORDS": "assay no", "COMP_CWORD": "1"}
    done = run_assay([], env=env)
    assert done.stdout.split() == ["noise"], done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_reason_to_fail(closed):
    """A command that a daemon starts without them ends as it would with them."""
    command = f"{sys.executable} -m assay --version {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
