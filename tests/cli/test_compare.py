"""assay compare: the whole command; killed and interrupted in processes of its own."""

import io
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from planted import quick
from small_compare import working_here
from small_runs import SmallData, quick_learning, run_assay, start_assay
from written import facts_of, rows_of, without_figures

from assay.cli.app import run_app
from assay.notebook.process import Failure
from assay.notebook.systems import SYSTEMS, System
from assay.notebook.work import measure

SYSTEM_IDS = ("histogram", "cnn-1", "assay")

PLANTED = {"PLANTED": "histogram=quick cnn-1=waits_once"}
"""The first is quick; the second waits where no earlier process of it has begun."""

TIMES = {
    "train_seconds",
    "stages_s",
    "milliseconds_alone",
    "milliseconds_in_batches",
    "peak_memory_bytes",
    "peak_memory_predicting_bytes",
}
"""What differs between two equal comparisons."""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Compared:
    """A finished comparison, and what it printed."""

    out: Path
    shown: str
    messages: str

    @property
    def record(self) -> dict:
        return facts_of(self.out / "compare.json")


def command(data: SmallData, place: Path, *more: str, systems: str = ",".join(SYSTEM_IDS)) -> list[str]:
    """``assay compare`` on all of it, with a cache of its own."""
    words = ["compare", data.images, *data.labels, "-o", place / "out", "--cache", place / "cache"]
    return [str(word) for word in (*words, "--backbone", "tiny", "--systems", systems, *more)]


@contextmanager
def planted_here(**systems: System) -> Iterator[None]:
    """Inside, systems are planted ones and work in this very process."""
    with pytest.MonkeyPatch.context() as patch, working_here():
        for name, system in systems.items():
            patch.setitem(SYSTEMS, name.replace("_", "-"), system)
        yield


@pytest.fixture(scope="module")
def unbroken(small_data, tmp_path_factory) -> Compared:
    """Not to be changed."""
    place, shown, messages = tmp_path_factory.mktemp("unbroken"), io.StringIO(), io.StringIO()
    with (
        planted_here(histogram=quick, cnn_1=quick),
        quick_learning(),
        redirect_stdout(shown),
        redirect_stderr(messages),
    ):
        assert run_app(command(small_data, place)) == 0, messages.getvalue()
    return Compared(place / "out", shown.getvalue(), messages.getvalue())


def began(place: Path) -> Path:
    """The file in which CNN 1 writes its process."""
    return place / "out" / "models" / "cnn-1" / "began"


QUALITY = """\
 accuracy 95 % interval macro F1 against Baseline McNemar p against Model II McNemar p
Baseline N % N to N N – – – –
CNN 1 N % N to N N N P – –
Assay N % N to N N N P – –
"""


def test_the_table_is_this(unbroken):
    """Accuracy, cost, and notes on them; messages are on stderr."""
    quality, cost, notes = unbroken.shown.split("\n\n")
    found = without_figures(f"{quality}\n").replace("< N", "N")
    assert re.sub("N N N – –$", "N N P – –", found, flags=re.MULTILINE) == QUALITY
    assert cost.splitlines()[0].split("  ")[-1].strip() == "on disk, MB"
    assert [line.split("  ")[0] for line in cost.splitlines()[1:]] == ["Baseline", "CNN 1", "Assay"]
    assert notes.splitlines()[0] == "Accuracy on 24 holdout images, the same for all systems."
    assert "Traceback" not in unbroken.messages


def test_a_finished_comparison_is_shown_again(unbroken, assay, small_data):
    """``--json`` prints compare.json, and charts that are missing are drawn again."""
    words, pictures = command(small_data, unbroken.out.parent, "--json"), unbroken.out / "pictures"
    assert {"samples.svg", *(f"confusion_{system}.svg" for system in SYSTEM_IDS)} <= {
        file.name for file in pictures.iterdir()
    }
    assert (unbroken.out / "models" / "cnn-1" / "history.svg").is_file()
    shutil.rmtree(pictures)
    layers = unbroken.out / "models" / "assay" / "layers.svg"
    layers.unlink()
    found = assay(*words)
    assert found.code == 0
    record = json.loads(found.out)
    assert record == unbroken.record
    assert [row["system"] for row in record["rows"]] == list(SYSTEM_IDS)
    assert {row["status"] for row in record["rows"]} == {"done"}
    assert f"{unbroken.out}" in found.err
    assert (pictures / "samples.svg").is_file()
    assert layers.is_file()
    rows = rows_of(unbroken.out / "compare.csv")
    assert [float(row["accuracy"]) for row in rows] == [row["accuracy"] for row in record["rows"]]


def test_a_killed_comparison_goes_on_to_the_same_end(unbroken, assay, small_data, tmp_path):
    """Killed while a system trains, then while it is evaluated: nothing is trained twice (fault 47)."""
    words, out = command(small_data, tmp_path), tmp_path / "out"
    env = PLANTED | {"WORKING_HERE": "1"}
    process = start_assay(words, env=env)
    assert int(wait_for(began(tmp_path), process).read_text()) == process.pid
    process.kill()
    process.communicate()
    assert [facts_of(file) for file in out.rglob("[!.]*.json")]  # each is whole
    first = facts_of(out / "models" / "histogram" / "row.json")
    assert not (out / "models" / "cnn-1" / "row.json").exists()

    # The first is written before the training, the second when the holdout is about to be read.
    died = run_assay(words, env=env | {"DIE_AT_RENAME": "2 compare.json"})
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert str(out) in died.stderr
    rows = {system: (out / "models" / system / "row.json").read_bytes() for system in SYSTEM_IDS}

    with planted_here(histogram=quick, cnn_1=quick):
        done = assay(*words)
    assert done.code == 0, done.err
    assert {system: (out / "models" / system / "row.json").read_bytes() for system in SYSTEM_IDS} == rows
    found = facts_of(out / "compare.json")
    assert found["rows"][0]["facts"] == first["trained"]["facts"]
    assert without_times(found) == without_times(unbroken.record)
    assert not list(out.rglob(".*.tmp"))


def without_times(record: dict) -> dict:
    """What two comparisons with the same settings and data have in common."""
    # A planted model holds the number of its process, which may have a digit more.
    apart_in_rows = {*TIMES, "model_bytes"}
    own_facts = {"pid", "training"}
    # Of a process that has loaded torch the machine has other threads.
    apart = ("command", "machine")
    rows = [
        {name: value for name, value in row.items() if name not in apart_in_rows}
        | {"facts": {name: fact for name, fact in row["facts"].items() if name not in own_facts}}
        for row in record["rows"]
    ]
    return {name: value for name, value in record.items() if name not in apart} | {"rows": rows}


def test_ctrl_c_ends_the_child_too(small_data, tmp_path):
    """Pressed in a terminal it reaches both; one line is printed, and the exit code is 130."""
    process = start_assay(command(small_data, tmp_path, systems="cnn-1"), env=PLANTED, start_new_session=True)
    child = int(wait_for(began(tmp_path), process).read_text())
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "assay: interrupted; the same command resumes"
    assert "Traceback" not in err
    wait_for_end([child])


def test_a_failed_system_is_a_row_and_an_exit_code(assay, small_data, tmp_path, monkeypatch):
    """Also if its model cannot be measured: the others are there, the table gives the reason, and its exit
    code is that of the command.
    """
    failure = Failure("out of memory", 6)

    def one_fails(work, entry, *, notify, progress):
        return failure if (entry.system, work) == ("cnn-1", measure) else work(entry, notify, progress)

    monkeypatch.setattr("assay.notebook.compare.run_apart", one_fails)
    for name in ("cnn-1", "model-2"):
        monkeypatch.setitem(SYSTEMS, name, quick)
    found = assay(*command(small_data, tmp_path, systems="cnn-1,model-2"))
    assert found.code == 6
    assert "CNN 1 failed: out of memory" in found.err
    assert found.out.splitlines()[-1] == "CNN 1 failed: out of memory"
    assert re.search(r"^CNN 1 +– +– +–", found.out, re.MULTILINE)
    assert re.search(r"^Model II +\d+\.\d %", found.out, re.MULTILINE)
    rows = tmp_path / "rows.csv"
    assert assay("predict", tmp_path / "out", small_data.images, "--all-systems", "-o", rows).code == 0
    assert rows.read_text().splitlines()[0] == "Index,Model II"


def test_skipped_images_end_with_4_when_strict(assay, own_data, tmp_path):
    """The table is there all the same; without ``--strict`` they change no exit code."""
    (own_data.images / "3.png").write_bytes(b"")
    words = command(own_data, tmp_path, systems="cnn-1")
    with planted_here(cnn_1=quick):
        assert assay(*words).code == 0
        found = assay(*words, "--strict")
    assert found.code == 4
    assert found.out.startswith("       accuracy")


def wait_for(file, process):
    """``file``, once it is there."""
    while not file.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    return file


def wait_for_end(pids):
    """A process whose parent is gone notices it, and ends itself."""
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
