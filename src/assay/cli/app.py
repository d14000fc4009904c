"""The list of commands, and the one place where their errors end up: ``endings`` says what becomes of each.

Results go to stdout, words and progress to stderr. torch is imported only by commands that need it.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from assay import __version__
from assay.cli import audit, compare, demo, evaluate, export, noise, plan, predict, report, review, run, serve
from assay.cli.console import show
from assay.cli.endings import end
from assay.cli.settings import read_settings

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

EPILOG = (
    "Start with: assay demo. Every flag may also be given as ASSAY_FLAG in the environment, as in "
    "ASSAY_SEED=1, or in assay.toml: 'seed = 1' at its top for all commands, below '[run]' for one."
)

HELP = {"-h", "--help", "--version"}
"""Words that must be answered however broken the settings are."""

RESUMABLE = ("run", "compare", "demo")
"""Commands that go on where they were interrupted."""

app = typer.Typer(
    name="assay",
    help="Learn an accurate, small image classifier from many noisy labels and a few trusted ones.",
    epilog=EPILOG,
    context_settings=SETTINGS,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _add(name: str, command: Callable[..., int], examples: Sequence[str]) -> None:
    # \b, alone in its line, keeps the lines of a paragraph apart.
    app.command(name, epilog="\n".join(["\b", "Examples:", *(f"  {example}" for example in examples)]))(
        command
    )


_add("run", run.run_command, run.EXAMPLES)
_add("noise", noise.noise_command, noise.EXAMPLES)
_add("predict", predict.predict_command, predict.EXAMPLES)
_add("export", export.export_command, export.EXAMPLES)
_add("serve", serve.serve_command, serve.EXAMPLES)
_add("evaluate", evaluate.evaluate_command, evaluate.EXAMPLES)
_add("compare", compare.compare_command, compare.EXAMPLES)
_add("audit", audit.audit_command, audit.EXAMPLES)
_add("report", report.report_command, report.EXAMPLES)
_add("review", review.review_command, review.EXAMPLES)
_add("plan", plan.plan_command, plan.EXAMPLES)
_add("demo", demo.demo_command, demo.EXAMPLES)


def _print_version(wanted: bool) -> bool:
    if wanted:
        show(f"assay {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version  # its callback has answered


def _names_of_flags(group: Any) -> dict[str, dict[str, str]]:
    """Command -> long flag, without its dashes -> name of the parameter."""
    return {
        name: {
            option.removeprefix("--"): parameter.name
            for parameter in command.params
            for option in parameter.opts
            if option.startswith("--")
        }
        for name, command in group.commands.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code, which ``_errors`` and ``cli.endings`` name."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # What a shell has set to be ignored, for a job in the background, stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    _open_streams()
    # A name that the terminal cannot show must not end a run.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # typed as any text stream
    sys.exit(run_app(list(sys.argv[1:] if arguments is None else arguments)))


def _open_streams() -> None:
    """What the caller has closed, as ``>&-`` does, is nowhere, and no reason to fail."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # while we run


def run_app(arguments: list[str]) -> int:
    """The exit code of one command; every failure has become a message on stderr."""
    again = "; the same command resumes" if _resumes(arguments) else ""
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  # every end has its message and its code
        return end(error, again)
    return code if isinstance(code, int) else 0


def _resumes(arguments: list[str]) -> bool:
    """Whether the command goes on where it was; rows in a file do, but not those of several models."""
    flags = {word.split("=")[0] for word in arguments}
    to_file = bool(flags & {"-o", "--out"}) and "--all-systems" not in flags
    return (arguments[:1] == ["predict"] and to_file) or bool({*arguments[:1]} & {*RESUMABLE})


def _invoke(arguments: list[str]) -> Any:
    if "_ASSAY_COMPLETE" in os.environ:
        return app(arguments, prog_name="assay")  # a shell asks for completions
    command = typer.main.get_command(app)
    settings = {} if HELP & {*arguments} else read_settings(Path("assay.toml"), _names_of_flags(command))
    # Not typer's own main, which turns a closed pipe into exit code 1.
    with command.make_context("assay", arguments or ["--help"], default_map=settings) as context:
        return command.invoke(context)


def _end(number: int, _: FrameType | None) -> None:
    """End in good order: threads finish what they have begun. The second time, end now."""
    signal.signal(number, _end_now)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _end_now(number: int, _: FrameType | None) -> None:
    # All that is on disk is whole at any moment; only the terminal may miss its cursor.
    shown = b"\x1b[?25h" if sys.stderr.isatty() else b""
    os.write(sys.stderr.fileno(), shown + b"assay: ended at once\n")
    os._exit(128 + number)
