import errno
import re

import pytest

from assay.embed.writing import explained
from assay.errors import ResourceError, UsageError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_says_how_much_is_needed(tmp_path, number):
    """Running out of space is a matter of resources, with the bytes that were asked for."""
    wanted = r"it needs 1,234,567 bytes more: make room, or name another cache"
    with pytest.raises(ResourceError, match=wanted), explained(tmp_path, 1234567):
        raise OSError(number, "no room")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    """Any other refusal is a matter of where the cache is."""
    message = f"cannot write to the cache {tmp_path}: keep out; name another one with ASSAY_CACHE"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"), explained(tmp_path):
        raise PermissionError(errno.EACCES, "keep out")


def test_what_is_no_refusal_passes_through(tmp_path):
    """An error that the operating system has no part in stays itself."""
    with pytest.raises(ValueError, match=r"^mine$"), explained(tmp_path):
        raise ValueError("mine")
