"""The list of commands, and the one place where an error becomes a message and an exit code.

Results go to stdout, words and progress to stderr. torch is imported only by commands that need it.
"""

import os
import signal
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import click
import typer

from assay import __version__
from assay._errors import AssayError, ResourceError, UsageError
from assay.cli import demo, evaluate, noise, predict, run
from assay.cli.console import say

SETTINGS = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "ASSAY", "max_content_width": 100}

app = typer.Typer(
    name="assay",
    help="Learn an accurate, small image classifier from many noisy labels and a few trusted ones.",
    epilog="Start with: assay demo",
    no_args_is_help=True,
    context_settings=SETTINGS,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run.run_command)
app.command("noise")(noise.noise_command)
app.command("predict")(predict.predict_command)
app.command("evaluate")(evaluate.evaluate_command)
app.command("demo")(demo.demo_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"assay {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    _: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    context.default_map = _settings_file(Path("assay.toml"))


def _settings_file(file: Path) -> dict[str, Any]:
    """Defaults from ``assay.toml``: a table for each command, a key for each flag."""
    if not file.is_file():
        return {}
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: expected TOML, got something else ({error})") from error
    return {
        command: {key.replace("-", "_"): value for key, value in table.items()}
        for command, table in found.items()
        if isinstance(table, dict)
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code; what each code means is in ``_errors.py``."""
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(run_app(list(sys.argv[1:] if arguments is None else arguments)))


def run_app(arguments: list[str]) -> int:  # noqa: PLR0911  # one return for each kind of end
    """The exit code of one command; every expected failure has become a message on stderr."""
    try:
        code = app(arguments, standalone_mode=False)
    except AssayError as error:
        return _failed(error.exit_code, f"assay: {error}")
    except click.exceptions.Exit as stop:
        return int(stop.exit_code)
    except click.ClickException as error:
        error.show()
        return UsageError.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _failed(130, "assay: interrupted; the same command resumes")
    except MemoryError:
        return _failed(
            ResourceError.exit_code,
            "assay: out of memory; use a smaller --size, then give the same command again",
        )
    except BrokenPipeError:
        # The reader has what it wanted; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code if isinstance(code, int) else 0


def _failed(code: int, message: str) -> int:
    say(message)
    return code


def _terminated(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)
