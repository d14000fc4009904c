"""How commands end: exit codes, messages, signals, and streams that are full, closed or no terminal."""

import contextlib
import errno
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_runs import draw_data, run_assay, start_assay
from written import facts_of

from assay import __version__, errors
from assay.cli import app as application
from assay.cli import options


def test_the_exit_codes_are_these():
    """Scripts rely on them."""
    found = {
        name: error.exit_code
        for name, error in vars(errors).items()
        if isinstance(error, type) and issubclass(error, errors.AssayError)
    }
    assert found == {
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
    assert options.SKIPPED == 4


def caused_by(error, cause):
    error.__cause__ = cause
    return error


@pytest.fixture
def ends_with(monkeypatch):
    """Let every command end with this error."""

    def give(error):
        def fail(_):
            raise error

        monkeypatch.setattr(application, "app", SimpleNamespace(parse_args=fail))

    return give


RESUMES = "; the same command resumes"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.DataError("expected x, got y"), 3, "expected x, got y"),
        (errors.BusyError("held"), 7, "held"),
        (KeyboardInterrupt(), 130, f"interrupted{RESUMES}"),
        (caused_by(ImportError("initialization failed"), KeyboardInterrupt()), 130, f"interrupted{RESUMES}"),
        (SystemExit(143), 143, f"terminated{RESUMES}"),
        (SystemExit(129), 129, f"terminal closed{RESUMES}"),
        (SystemExit(None), 0, ""),
        (SystemExit("words"), 1, ""),
        (MemoryError(), 6, f"{application.OUT_OF_MEMORY}{RESUMES}"),
        (RuntimeError("CUDA out of memory."), 6, application.OUT_OF_GPU_MEMORY),
        (RuntimeError("could not create a primitive"), 6, f"{application.OUT_OF_MEMORY}{RESUMES}"),
        (RuntimeError("std::bad_alloc"), 6, f"{application.OUT_OF_MEMORY}{RESUMES}"),
        (
            ImportError("x.so: failed to map segment from shared object"),
            6,
            f"{application.OUT_OF_MEMORY}{RESUMES}",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            6,
            f"cannot write: No space left on device; free disk space{RESUMES}",
        ),
    ],
)
def test_each_end_has_its_code_and_message(assay, ends_with, error, code, message):
    """An expected end is one line without a traceback, which says so where the same command resumes."""
    ends_with(error)
    for words, again in (
        (["run"], RESUMES),
        (["demo"], RESUMES),
        (["predict", "out", "new", "--out=a.csv"], RESUMES),
        (["predict", "out", "new"], ""),  # rows that went into a pipe are gone
        (["predict", "out", "new", "-o", "a.csv", "--all-systems"], ""),
        (["noise"], ""),
    ):
        found = assay(*words)
        shown = message.replace(RESUMES, again)
        assert (found.code, found.err) == (code, f"assay: {shown}\n" if message else "")


@pytest.mark.parametrize("error", [ValueError("surprise"), OSError(errno.EIO, "surprise")])
def test_a_bug_is_shown_whole(assay, ends_with, error):
    """An unexpected error ends with 1, its traceback and a request to report it."""
    ends_with(error)
    found = assay("noise")
    lines = found.err.splitlines()
    assert (found.code, lines[0]) == (1, "Traceback (most recent call last):")
    assert "surprise" in lines[-2]
    assert lines[-1] == "assay: this is a bug in assay; please report it with the lines above"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosie"], 'Unknown command "nosie". Did you mean "noise"?'),
        (
            ["noise", "images", "--sed", "1"],
            "Unknown option: --sed. Did you mean --seed? See assay noise -h.",
        ),
        (["noise", "images", "--seed", "x"], 'Invalid value for --seed: unable to convert "x" into int.'),
        (["noise", "images", "--seed", "-1"], 'Invalid value "-1" for --seed. Must be >= 0.'),
        (["noise", "images", "--duplicates", "voet"], 'Did you mean "vote"? See assay noise -h.'),
        (["noise", "images", "more"], "expected no further arguments, got more. See assay noise -h."),
        (["noise"], "expected IMAGES or --features FILE, got neither"),
        (
            ["compare", "images", "-o", "out"],
            "expected --trusted FILE with labels that you checked, got none",
        ),
        (
            ["noise", "images", "--trusted", "t", "--class-map", "ab"],
            "--class-map: expected FROM=TO, got 'ab'",
        ),
        (["run", "images", "-o", "out", "--time-limit", "1d"], "expected a time above 0 such as 90s, 20m or"),
        (["run", "images", "-o", "out", "--time-limit", "0"], "such as 90s, 20m or 1.5h, got '0'"),
    ],
)
def test_wrong_usage_ends_with_2(refused, words, message):
    """One line says what is wrong and, for a slip, what was probably meant."""
    found = refused(2, message, *words)
    assert (found.startswith("assay: "), found.count("\n")) == (True, 1)


def training(tmp_path, seconds):
    """A run in its own process whose heads take this long to train, once it trains one; and its command."""
    command = draw_data(tmp_path / "data", 60).command(tmp_path / "out")
    begun = tmp_path / "begun"
    slow = {"SLOW_HEAD_S": str(seconds), "SLOW_HEAD_BEGUN": str(begun)}
    process = start_assay(command, env=slow)
    while not begun.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    return process, command


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGHUP, 129, "terminal closed"),
    ],
)
def test_a_signal_ends_a_run_in_one_line(tmp_path, number, code, word):
    """The exit code is that of shells, there is no traceback, and the run can be resumed."""
    process, _ = training(tmp_path, seconds=0.2)
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out) == (code, "")
    assert err.splitlines()[-1] == f"assay: {word}; the same command resumes"
    assert "Traceback" not in err
    assert facts_of(tmp_path / "out" / "run.json")["status"] == "running"


def test_a_deleted_folder_is_named(refused, here):
    """A command that is given in a folder which is gone ends with 2 and says so; help does without."""
    here.rmdir()
    refused(2, "the current folder was deleted", "run", "images", "--trusted", "t.csv", "-o", "out")
    assert application.run_app(["--help"]) == 0


@pytest.mark.slow
def test_a_second_signal_ends_at_once(tmp_path):
    """A second Ctrl-C does not wait for work that has begun (fault 52)."""
    process, _ = training(tmp_path, seconds=600)
    while process.poll() is None:
        # Two that arrive before the process wakes are one.
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "assay: stopped at once"


@pytest.mark.slow
def test_a_held_folder_ends_with_7(assay, tmp_path):
    """A second run on the folder of a running one is refused with the number of its process."""
    process, command = training(tmp_path, seconds=600)
    try:
        found = assay(*command, "--quiet")
    finally:
        process.kill()
        process.communicate()
    assert found.code == 7
    assert f"(process {process.pid})" in found.err


@pytest.mark.slow
def test_a_full_disk_ends_with_6_and_the_run_resumes(assay, small_data, finished, tmp_path):
    """Without space for features the message says how much is needed; with space, the bytes are the same."""
    command = small_data.command(tmp_path / "out", "--quiet", "--cache", str(tmp_path / "cache"))
    full = run_assay(
        command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    )
    assert full.returncode == 6
    assert full.stderr.startswith(f"assay: cannot write {tmp_path / 'cache'}")
    assert "bytes; free disk space" in full.stderr
    assert assay(*command).code == 0
    for name in ("labels.csv", "noise.json", "model/model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (finished / name).read_bytes()


def test_a_full_device_ends_with_6(small_data):
    """Output that cannot be stored is not a bug."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = run_assay(["noise", small_data.images, *small_data.labels, "-q"], stdout=full)
    assert done.returncode == 6
    assert done.stderr == "assay: cannot write: No space left on device; free disk space\n"


@pytest.fixture
def unread():
    """A pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        yield pipe


@pytest.mark.parametrize("words", [["--help"], ["predict"]])
def test_a_reader_that_has_enough_is_no_error(finished, small_data, unread, words):
    """``assay predict … | head -1`` prints its line and no traceback (fault 52)."""
    more = [finished, small_data.images, "-q"] if words == ["predict"] else []
    done = run_assay([*words, *more], stdout=unread)
    assert (done.returncode, done.stderr) == (0, "")


def test_work_goes_on_when_nobody_reads_messages(finished, small_data, tmp_path, unread):
    """``assay run … 2> >(head -1)`` ends as with a reader."""
    done = run_assay(small_data.command(tmp_path / "out"), stderr=unread)
    assert done.returncode == 0
    assert "accuracy of" in done.stdout
    assert (tmp_path / "out" / "labels.csv").read_bytes() == (finished / "labels.csv").read_bytes()


@pytest.mark.parametrize("closed", ["", "<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(closed):
    """A daemon may start a command without them; ``python -m assay`` is the command."""
    words = ["sh", "-c", f"{sys.executable} -m assay --version {closed}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    shown = "" if ">&-" in closed.split() else f"assay {__version__}\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, "")


def test_a_pipe_has_no_colours(finished, small_data):
    """Without a terminal neither stream has escape sequences (fault 52)."""
    forced = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    for words, env in ((small_data.command(finished), forced), (["-h"], {"TERM": "xterm-256color"})):
        done = run_assay(words, env=env)
        assert done.returncode == 0
        assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("terminal", ["xterm-256color", "dumb"])
def test_a_terminal_without_colours_has_none(finished, small_data, tmp_path, terminal):
    """With NO_COLOR the progress bar has no colour; a dumb terminal gets no bar at all."""
    pty = pytest.importorskip("pty", reason="there are no terminals to open here")
    leader, follower = pty.openpty()
    words = ["predict", finished, small_data.images, "-o", tmp_path / "rows.csv"]
    process = start_assay(words, stderr=follower, env={"TERM": terminal, "NO_COLOR": "1"})
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal without the other end is read on Linux
        while part := os.read(leader, 65536):
            shown += part
    os.close(leader)
    process.communicate()
    assert process.returncode == 0
    styles = {*re.findall(rb"\x1b\[([\d;]*)m", shown)}
    assert styles <= {b"0", b"", b"1", b"2"}  # bold and dim are no colours
    assert (b"\x1b" in shown) == (terminal != "dumb")


def test_shell_completion_can_be_installed(assay, tmp_path, monkeypatch):
    """In bash, Tab completes commands, options and the values of an option."""
    monkeypatch.setenv("HOME", str(tmp_path))  # a line is added to ~/.bashrc
    script = tmp_path / "assay.bash"
    assert assay("--install-completion", "--shell", "bash", "-o", script).code == 0
    tab = (
        f". {script}\n"
        'tab() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _assay assay; echo "${COMPREPLY[*]}"; }\n'
        "tab assay r; tab assay run --time; tab assay run --preset b"
    )
    shown = subprocess.run(["bash", "-c", tab], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["run report review", "--time-limit", "balanced best"]
