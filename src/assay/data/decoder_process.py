"""What a process that decodes does: requests from stdin, answers to stdout, until nobody asks any more."""

import sys

from assay.data.decoder_messages import GREETING, pack_answer, read_request
from assay.data.forms import make_squares


def main() -> None:
    """Answer until stdin ends."""
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # whatever else is printed is no answer
    answers.write(GREETING)
    answers.flush()
    while (request := read_request(asked)) is not None:
        try:
            answer = pack_answer(make_squares(*request))
        except MemoryError as error:
            answer = pack_answer(error)
        answers.write(answer)
        answers.flush()
