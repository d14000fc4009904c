"""Write the reference pages beside this file, from help texts and docstrings: ``make docs``."""

import ast
import inspect
import re
from dataclasses import is_dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import assay
from assay.cli.app import COMMANDS, app
from assay.evaluate import Evaluation
from assay.pipeline.options import RunOptions
from assay.pipeline.result import RunLabels, RunResult
from assay.predict.batch import Predictions
from assay.predict.predictor import Predictor

FOLDER = Path(__file__).parent

OTHERS = (RunResult, RunLabels, Predictor, Predictions, Evaluation, RunOptions)
"""What public functions give and take, besides the public names."""

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


FIRST = ("run", "load_run", "load_model")
"""What most people need."""

REFERENCE = """\
# Python reference

<!-- Written by docs/generate.py: change the docstrings in src/assay, then run make docs. -->

`import assay` loads neither torch nor scikit-learn; each name is loaded when it is first used. How to use
them: [recipes](recipes.md). N images, K classes, D features; -1, None or NaN stand for an unknown label.

"""


def reference() -> str:
    """The whole of reference.md: public names, then the classes that they give and take."""
    named = [(f"assay.{name}", getattr(assay, name)) for name in assay.__all__]
    more = [(one.__name__, one) for one in OTHERS]
    order = sorted(named, key=lambda pair: (pair[0].split(".")[1] not in FIRST, inspect.isclass(pair[1])))
    return REFERENCE + "\n".join(_entry(title, one) for title, one in [*order, *more])


def _entry(title: str, thing: Any) -> str:
    lines = [f"## {title}", ""]
    if not inspect.isclass(thing):
        lines += ["```text", _signature(title, thing), "```", ""]
    lines += [_markdown(inspect.getdoc(thing) or ""), ""]
    if inspect.isclass(thing) and not issubclass(thing, Exception):
        fields = _field_texts(thing) if is_dataclass(thing) else {}
        rows = [f"- **`{name}`**{': ' * bool(text)}{_inline(text)}" for name, text in fields.items()]
        for name, one in vars(thing).items():
            told = inspect.getdoc(getattr(thing, name, None)) if not name.startswith("_") else None
            if told and name not in fields and (callable(one) or isinstance(one, property) or _cached(one)):
                bracket = "(…)" if callable(one) else ""
                rows.append(f"- **`{name}{bracket}`**: {_inline(told.split(chr(10) * 2)[0])}")
        lines += [*rows, ""]
    return "\n".join(lines)


def _cached(one: Any) -> bool:
    return type(one).__name__ == "cached_property"


def _signature(title: str, function: Any) -> str:
    """Without types: the text below says what may be given."""
    found = []
    for name, one in inspect.signature(function).parameters.items():
        if one.kind is one.KEYWORD_ONLY and "*" not in found:
            found.append("*")
        star = "**" if one.kind is one.VAR_KEYWORD else ""
        default = "" if one.default is one.empty else f"={_default(one.default)}"
        found.append(f"{star}{name}{default}")
    line = f"{title}({', '.join(found)})"
    return line if len(line) < 90 else f"{title}(\n    " + ",\n    ".join(found) + ",\n)"


def _default(value: Any) -> str:
    return value.__name__ if inspect.isfunction(value) else repr(value)


def _field_texts(thing: type) -> dict[str, str]:
    """Field -> the docstring below it."""
    (tree,) = ast.parse(dedent(inspect.getsource(thing))).body
    found: dict[str, str] = {}
    last = ""
    for node in tree.body:  # type: ignore[attr-defined]  # a class has a body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
            found[last] = ""
        elif last and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[last], last = str(node.value.value), ""
        else:
            last = ""
    return {name: text for name, text in found.items() if not name.startswith("_")}


def _inline(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("``", "`")).strip()


def _markdown(text: str) -> str:
    """Sections such as Parameters as lists; indented examples as code."""
    blocks = []
    for block in text.split("\n\n"):
        head, _, rest = block.partition("\n")
        if re.match(r"-+\n", rest):
            entries = re.split(r"\n(?=\S)", rest.partition("\n")[2])
            items = [re.sub(r"^([^:]+?) : ", r"**`\1`**: ", _inline(entry)) for entry in entries]
            blocks.append(f"**{head}**\n\n" + "\n".join(f"- {item}" for item in items))
        elif block.startswith("    "):
            blocks.append(f"```python\n{dedent(block)}\n```")
        elif block != "::":
            blocks.append(_inline(block))
    return "\n\n".join(blocks)


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
    (FOLDER / "cli.md").write_text(text(), encoding="utf-8")
    (FOLDER / "reference.md").write_text(reference(), encoding="utf-8")
