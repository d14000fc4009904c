"""Write cli.md beside this file from the help pages of the commands: ``make docs``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from assay.cli.app import app

PAGE = Path(__file__).with_name("cli.md")

WIDTH = 98

TYPER = ".".join(typer.__version__.split(".")[:2])

INTRODUCTION = f"""\
# The command line

<!-- Written by docs/generate.py from the help pages, with typer {TYPER}. -->

Results go to stdout, words and progress to stderr. `--json` prints one JSON object instead of a table.

A setting comes from the flag, else from the environment (`--path-col` is `ASSAY_PATH_COL`), else from
`assay.toml` in the working folder, else from the default:

```toml
cache = "/big/cache"  # for every command that has --cache

[run]                 # for assay run alone
seed = 1
class-map = ["kitten=cat"]
```

`ASSAY_OFFLINE=1` forbids the network, which only `--backbone`, `--student` and `--teacher` with a name that
needs a download would use.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a bug in assay: please report it |
| 2 | wrong usage or configuration; other settings than those of the run in the folder |
| 3 | input data refused, nothing was written |
| 4 | done, but images had to be skipped, under `--strict` |
| 5 | done, but the model is not measurably better than the baseline; `export`: refused, nothing was written |
| 6 | out of disk or memory; the same command goes on once there is room |
| 7 | another run holds the folder |
| 130, 143 | interrupted, terminated; `run`, `compare`, `demo`, `predict -o` of one model go on again |
"""


def pages() -> Iterator[tuple[str, str]]:
    """Each command as it is typed, and its help page."""
    group: Any = typer.main.get_command(app)
    top = group.make_context("assay", [], resilient_parsing=True, terminal_width=WIDTH)
    yield "assay", group.get_help(top)
    for name, command in group.commands.items():
        context = command.make_context(name, [], parent=top, resilient_parsing=True)
        yield f"assay {name}", command.get_help(context)


def text() -> str:
    """The whole of cli.md."""
    parts = [f"\n## {name}\n\n```\n{page.strip()}\n```\n" for name, page in pages()]
    return INTRODUCTION + "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
