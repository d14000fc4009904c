"""How far a step is: lines in a log, and a bar in a notebook."""

import sys
from types import SimpleNamespace

import pytest

from assay import progress as module
from assay.progress import in_notebook, progress_bar


@pytest.fixture
def lines(monkeypatch, capsys):
    """The progress lines for items done at these seconds: (second, stage, done, total)."""

    def give(*steps):
        now = [0.0]
        monkeypatch.setattr(module.time, "monotonic", lambda: float(now[0]))
        with progress_bar(quiet=False) as progress:
            for now[0], *step in steps:
                progress(*step)
        return capsys.readouterr().err.splitlines()

    return give


def test_without_a_terminal_a_line_comes_now_and_then(lines):
    """Every ten seconds a line says how far a stage is, how fast it goes and how long it will take."""
    steps = [(second, "embed", 100 * second, 5000) for second in (1, 5, 11, 12, 22)]
    assert lines(*steps, (40, "fit", 0, 5), (60, "fit", 2, 5)) == [
        "embed: 1,100 of 5,000, 100 per second, 39 s left",
        "embed: 2,200 of 5,000, 100 per second, 28 s left",
        "fit: 2 of 5, 30 s left",
    ]


def test_the_rate_is_that_of_the_last_seconds(lines):
    """Images found in the cache, or in an earlier pass, do not count; slow steps have a rate too."""
    resumed = [(2 + 10 * k, "embed", 40_000 + 100 * k, 50_000) for k in range(1, 9)]
    found = lines((1, "embed", 1000, 50_000), (2, "embed", 40_000, 50_000), *resumed)
    assert found[-1] == "embed: 40,800 of 50,000, 10 per second, 920 s left"
    again = [(59, "decode", 0, 900), (60, "decode", 10, 900), (70, "decode", 110, 900)]
    assert lines((1, "decode", 100, 5000), (50, "decode", 5000, 5000), *again)[-1] == (
        "decode: 110 of 900, 10 per second, 79 s left"
    )
    assert lines(*((200 * k, "train", k, 5) for k in range(4)))[-1] == "train: 3 of 5, 400 s left"


def test_quiet_progress_prints_nothing(capsys):
    """A first line would come only after ten seconds anyway."""
    for quiet in (True, False):
        with progress_bar(quiet) as progress:
            progress("embed", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_notebook_has_one_bar_that_vanishes(monkeypatch):
    """IPython's display is redrawn, at most four times a second, and is empty at the end."""
    drawn = []
    handle = SimpleNamespace(update=drawn.append)
    page = SimpleNamespace(HTML=str, display=lambda *_, **__: handle)
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", page)
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    assert in_notebook()
    with progress_bar(quiet=False) as progress:
        for done in range(11):
            now[0] += 0.1
            progress("embed", 10 * done, 100)
    assert drawn[0].startswith('embed <progress value="0" max="100"></progress> 0 of 100')
    assert (
        drawn[-2] == 'embed <progress value="100" max="100"></progress> 100 of 100, 100 per second, 0 s left'
    )
    assert drawn[-1] == ""
    assert len(drawn) < 8
    del shell.kernel
    assert not in_notebook()
