"""Write cli.md beside this file from the help of the commands: ``make docs``."""

from pathlib import Path

from assay.cli.app import COMMANDS, app

PAGE = Path(__file__).with_name("cli.md")

INTRODUCTION = """\
# The command line

<!-- Written by docs/generate.py: change the help texts in src/assay/cli, then run make docs. -->

Results go to stdout, messages and progress to stderr. `--json` prints one JSON object instead of a table.

The value of an option comes from the command line, else from the environment (`ASSAY_PATH_COL` for
`--path-col`), else from `assay.toml` in the working folder, else it is the default:

```toml
cache = "/big/cache"  # for every command that has --cache

[run]                 # for assay run alone
seed = 1
class-map = ["kitten=cat"]
```

`ASSAY_OFFLINE=1` forbids network access, which only images at a URL and a `--backbone` or `--student` that
must be downloaded need.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a bug in assay: please report it |
| 2 | wrong usage or configuration; the folder holds a run with other settings |
| 3 | input data refused; nothing was written |
| 4 | done, but images were skipped, under `--strict` |
| 5 | done, but no better than the baseline (of features: worse); `export` refused; `check`: wrong labels |
| 6 | out of disk space or memory; the same command resumes once there is space |
| 7 | another run is using the folder |
| 129, 130, 143 | terminal closed, interrupted, terminated; `run`, `compare`, `demo`, `predict -o` resume |
"""


def text() -> str:
    """The whole of cli.md: the generated help, with the examples after each command."""
    first, *sections = app.generate_docs(heading_level=2).split("\n### ")
    parts = [INTRODUCTION, first]
    for section in sections:
        parts.append(f"### {section}")
        if (module := COMMANDS.get(section.split()[1])) is not None:
            examples = "\n".join(module.EXAMPLES)
            parts.append(f"**Examples**:\n\n```console\n{examples}\n```")
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
