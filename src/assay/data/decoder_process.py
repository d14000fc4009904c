"""What a process that decodes does: requests from stdin, answers to stdout, until nobody asks any more."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator

from assay.data.decoder_messages import GREETING, NO_MEMORY, REAL_TIMES, pack_answer, pack_bug, read_request
from assay.data.forms import make_squares


def main(limit_s: float) -> None:
    """Answer until stdin ends, or an image takes more than ``limit_s`` seconds of the processor."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file among the user's
    if hasattr(signal, "setitimer"):  # whoever began this process may have had other plans
        for number in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGPROF, signal.SIGALRM))
    asked = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed is no answer
    answers.write(GREETING)
    answers.flush()
    try:
        while (request := read_request(asked)) is not None:
            with _limited(limit_s):
                answer = _answer(*request)
            answers.write(answer)
            answers.flush()
    except MemoryError:
        os._exit(NO_MEMORY)


def _answer(*request: object) -> bytes:
    try:
        return pack_answer(make_squares(*request))  # type: ignore[arg-type]  # as they were asked
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # a bug, which the asking process raises
        return pack_bug(traceback.format_exc())


@contextlib.contextmanager
def _limited(limit_s: float) -> Iterator[None]:
    """What takes longer ends the process: the signals' usual effect, which no decoder can delay."""
    if not hasattr(signal, "setitimer"):  # Windows
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    signal.setitimer(signal.ITIMER_REAL, REAL_TIMES * limit_s)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
