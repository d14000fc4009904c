"""The commands, where their options come from, and how they end: exit codes, signals, closed streams."""

import os
import signal
import sys
import tomllib
import traceback
import warnings
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import Any, get_args

from cyclopts import App, ArgumentCollection, CycloptsError, Group, Parameter, Token, UnusedCliTokensError
from cyclopts.config import Dict

from assay import __version__
from assay.cli import (
    audit,
    check,
    compare,
    demo,
    evaluate,
    export,
    labels,
    noise,
    plan,
    predict,
    report,
    review,
    run,
    serve,
)
from assay.data.place import Url, place_of
from assay.errors import AssayError, ResourceError, UsageError, is_disk_full, is_on_gpu, is_out_of_memory
from assay.progress import notify, redirect_to_devnull

SETTINGS = Path("assay.toml")

OUT_OF_MEMORY = "out of memory; close other programs, or use fewer --workers"
OUT_OF_GPU_MEMORY = (
    "out of GPU memory; close other programs that use the GPU, use a smaller --size or --student-size, or "
    "set CUDA_VISIBLE_DEVICES= to run on the CPU"
)

SIGNALS = {129: "terminal closed", 143: "terminated"}
"""Exit code, 128 plus the number of the signal -> message."""

EPILOGUE = (
    "Start with: assay demo\n\n"
    "Every option can also be set in the environment (ASSAY_SEED=1 for --seed 1) or in assay.toml: "
    "'seed = 1' at its top for all commands, or below '[run]' for one."
)


def _environment(_: App, __: tuple[str, ...], arguments: ArgumentCollection) -> None:
    # Not cyclopts' Env: it takes an empty variable for a value, and reads arguments without a flag too.
    for argument in arguments:
        variable = "ASSAY_" + argument.name.removeprefix("--").upper().replace("-", "_")
        value = os.environ.get(variable)
        # Tokens are there if the command line set it: they are stronger.
        if value and argument.name.startswith("--") and not argument.tokens:
            for index, part in enumerate(argument.env_var_split(value)):
                argument.append(Token(keyword=variable, value=part, source="environment", index=index))


def _settings(command: App, chain: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Take options from assay.toml, of which every key must be an option of some command."""
    if not chain or not SETTINGS.is_file():
        return
    try:
        shared = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{SETTINGS}: expected TOML, got something else ({error})") from error
    tables = {key: shared.pop(key) for key in list(shared) if isinstance(shared[key], dict)}
    known: dict[str, set[str]] = {}
    for name in COMMANDS:
        options = app[name].assemble_argument_collection()
        known[name] = {flag[2:] for option in options for flag in option.names if flag.startswith("--")}
    for name, table in tables.items():
        _check_keys([name], {*known}, "a command")
        _check_keys(table, known[name], f"an option of assay {name}")
    _check_keys(shared, set().union(*known.values()), "an option")
    # The top of the file is for all commands, so a key that this one lacks is no error.
    mine = {key: value for key, value in shared.items() if key in known[chain[0]]}
    values = Dict(mine | tables.get(chain[0], {}), source=str(SETTINGS), use_commands_as_keys=False)
    values(command, chain, arguments)


def _local_paths(_: App, __: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse a URL where a path is expected: as a path it would be a new folder of that name."""
    for argument in arguments:
        kinds = get_args(argument.hint) or (argument.hint,)
        if Path in kinds and Url not in kinds:
            for token in argument.tokens:
                if isinstance(url := place_of(token.value), Url):
                    raise UsageError(
                        f"{argument.name}: expected a file or folder on this machine, got {url}; only images "
                        "are read from a URL"
                    )


def _check_keys(keys: Iterable[str], known: set[str], what: str) -> None:
    if (key := next((key for key in keys if key not in known), None)) is not None:
        near = get_close_matches(key, sorted(known), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(known))}"
        raise UsageError(f"{SETTINGS}: {key!r} is not {what}; {hint}")


def _default_text(value: Any) -> str | None:
    return None if value in (None, ()) or value is False else str(value)  # a flag is off anyway


app = App(
    name="assay",
    help="Train an accurate, small image classifier from many noisy labels and a few trusted ones.",
    help_epilogue=EPILOGUE,
    help_format="plaintext",
    help_flags=("-h", "--help"),
    version=f"assay {__version__}",
    version_flags=("--version",),
    version_format="plaintext",
    group_parameters=Group("Options", sort_key=0),
    default_parameter=Parameter(negative=(), show_default=_default_text),  # no --no-json beside --json
    config=(_environment, _settings, _local_paths),
    print_error=False,
    exit_on_error=False,
)

_MODULES = (
    run,
    noise,
    labels,
    predict,
    evaluate,
    compare,
    export,
    serve,
    audit,
    check,
    report,
    review,
    plan,
    demo,
)

COMMANDS = {module.__name__.rpartition(".")[2]: module for module in _MODULES}
"""Each module has a function ``command`` and EXAMPLES, and imports heavy packages when it runs."""

for _sort_key, (_name, _module) in enumerate(COMMANDS.items()):
    _examples = "\n".join(["Examples:", *(f"  {example}" for example in _module.EXAMPLES)])
    app.command(_module.command, name=_name, help_epilogue=_examples, sort_key=_sort_key)
app.register_install_completion_command(help="Install shell completion for assay.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    # Not where images are decoded: filters are those of all threads.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        # A signal that the shell ignores, as for a job in the background, stays ignored.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    # A stream that the caller closed (>&-) is None; to write to it must not fail.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # open until exit
    # A file name that the terminal cannot show must not end a run.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # typed as any text stream
    sys.exit(run_app(list(sys.argv[1:] if arguments is None else arguments)))


def run_app(words: list[str]) -> int:
    """Run one command and return its exit code; every error has become a message on stderr."""
    try:
        command, bound, unparsed = app.parse_args(words)
        if command.__module__.startswith("assay."):  # help does without
            _check_current_folder()
        if "words" in unparsed:
            bound.arguments["words"] = tuple(words)
        code = command(*bound.args, **bound.kwargs)
        sys.stdout.flush()  # a full device shows here, where it still has its message
    except BaseException as error:  # noqa: BLE001  # every error has its message and its code
        code, message, may_resume = _ending(error)
        if message:
            notify(f"assay: {message}{'; the same command resumes' * (may_resume and _resumes(words))}")
    return code if isinstance(code, int) else 0


def _check_current_folder() -> None:
    # Relative paths mean nothing there, and libraries of torch end the process.
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UsageError("the current folder was deleted; change to another one, then try again") from None


def _resumes(words: Sequence[str]) -> bool:
    """Whether the command continues where it was interrupted."""
    if words[:1] == ["predict"]:  # rows in a file do, but not those of several models
        flags = {word.split("=")[0] for word in words}
        return bool(flags & {"-o", "--out"}) and "--all-systems" not in flags
    return words[0] in {"run", "compare", "demo"} if words else False


def _ending(error: BaseException) -> tuple[int, str, bool]:  # noqa: PLR0911  # one return for each end
    """The exit code, the message, and whether a command that can resume may do so."""
    cause = error.__cause__ or error.__context__
    # A C++ module that Ctrl-C interrupts while it loads raises another error.
    while_importing = isinstance(error, ImportError | RuntimeError) and isinstance(cause, KeyboardInterrupt)
    if isinstance(error, AssayError):
        return error.exit_code, str(error), False
    if isinstance(error, CycloptsError):
        error.verbose = False  # one line, without the signature of the function behind it
        message = str(error)
        if isinstance(error, UnusedCliTokensError):
            message = f"expected no further arguments, got {' '.join(error.unused_tokens or ())}."
        command = " ".join(("assay", *(error.command_chain or ())))
        return UsageError.exit_code, f"{message} See {command} -h.", False
    if isinstance(error, KeyboardInterrupt) or while_importing:
        return 130, "interrupted", True
    if isinstance(error, BrokenPipeError) or isinstance(cause, BrokenPipeError):
        redirect_to_devnull(sys.stdout)  # the reader, such as head, has enough
        return 0, "", False
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        return code, SIGNALS.get(code, ""), code in SIGNALS
    if is_out_of_memory(error):
        on_gpu = is_on_gpu(error)
        # On a GPU the same command needs the same memory again.
        return ResourceError.exit_code, OUT_OF_GPU_MEMORY if on_gpu else OUT_OF_MEMORY, not on_gpu
    if is_disk_full(error):
        return ResourceError.exit_code, f"cannot write: {error.strerror}; free disk space", True
    traceback.print_exception(error)
    return 1, "this is a bug in assay; please report it with the lines above", False


def _stop(number: int, _: FrameType | None) -> None:
    """End in good order: threads finish what they have begun. A second signal ends at once."""
    signal.signal(number, _stop_now)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _stop_now(number: int, _: FrameType | None) -> None:
    # Files are whole at any moment; only the terminal may still miss its cursor.
    cursor = b"\x1b[?25h" if sys.stderr.isatty() else b""
    os.write(sys.stderr.fileno(), cursor + b"assay: stopped at once\n")
    os._exit(128 + number)
