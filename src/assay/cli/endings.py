"""How a command can end other than by finishing: what is said of it, and the exit code."""

import sys
import traceback
from dataclasses import dataclass

import typer

from assay.cli.console import notify, redirect_to_devnull
from assay.errors import AssayError, ResourceError, UsageError, is_disk_full, is_on_gpu, is_out_of_memory

SKIPPED = 4
"""Done, but images had to be skipped, under ``--strict``."""

INTERRUPTED, TERMINATED = 130, 143
"""128 and the number of the signal, as shells have it."""

OUT_OF_MEMORY = "out of memory; end other programs, or try fewer --workers"
OUT_OF_GPU_MEMORY = (
    "out of memory of the graphics processor; end other programs on it, try a smaller --size or "
    "--student-size, or set CUDA_VISIBLE_DEVICES= to work without it"
)


@dataclass(frozen=True)
class Ending:
    """An exit code, and what to say on stderr before it."""

    code: int
    message: str = ""
    resumes: bool = False
    """Whether the command may go on where it was, if it is one that can."""


def end(error: BaseException, again: str) -> int:
    """Say what ended the command; its exit code.

    Parameters
    ----------
    again : what to say of resuming; empty for commands that do not resume
    """
    ending = _refusal(error) or _interruption(error) or _shortage(error)
    if ending is None:
        traceback.print_exception(error)
        ending = Ending(1, "this is a bug in assay; please report it with the lines above")
    if ending.message:
        notify(f"assay: {ending.message}{again if ending.resumes else ''}")
    return ending.code


def _refusal(error: BaseException) -> Ending | None:
    if isinstance(error, AssayError):
        return Ending(error.exit_code, str(error))
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "assay"
        return Ending(UsageError.exit_code, f"{error.format_message().rstrip('.')}; see {where} -h")
    return None


def _interruption(error: BaseException) -> Ending | None:
    if isinstance(error, KeyboardInterrupt | typer.Abort) or _while_importing(error):
        return Ending(INTERRUPTED, "interrupted", resumes=True)
    if isinstance(error, SystemExit) and error.code == TERMINATED:
        return Ending(TERMINATED, "terminated", resumes=True)
    if isinstance(error, SystemExit | typer.Exit):
        code = error.exit_code if isinstance(error, typer.Exit) else error.code
        return Ending(code if isinstance(code, int) else int(code is not None))
    if isinstance(error, BrokenPipeError):
        redirect_to_devnull(sys.stdout)  # the reader has what it wanted
        return Ending(0)
    return None


def _while_importing(error: BaseException) -> bool:
    """Whether Ctrl-C came while a module of C++ was loaded, which makes another error of it."""
    inner = error.__cause__ or error.__context__
    return isinstance(error, ImportError | RuntimeError) and isinstance(inner, KeyboardInterrupt)


def _shortage(error: BaseException) -> Ending | None:
    if is_out_of_memory(error):
        there = is_on_gpu(error)
        words = OUT_OF_GPU_MEMORY if there else OUT_OF_MEMORY
        return Ending(ResourceError.exit_code, words, resumes=not there)
    if is_disk_full(error):
        return Ending(ResourceError.exit_code, f"no room to write: {error.strerror}", resumes=True)
    return None
