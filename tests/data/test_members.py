import os
import zlib

import numpy as np
import pytest

from assay.data.dataset import Skipped
from assay.data.members import FileStore, Member, Members, peek_member, read_member, too_large

CONTENT = b"some pixels, " * 100


def deflated(content: bytes) -> bytes:
    return zlib.compress(content, wbits=-zlib.MAX_WBITS)


@pytest.fixture
def store(tmp_path):
    """Bytes with a stored and a deflated copy of the content."""
    path = tmp_path / "store"
    path.write_bytes(b"head" + CONTENT + deflated(CONTENT) + b"\xff" * 50)
    return FileStore.of(path)


STORED = Member(4, len(CONTENT), len(CONTENT))
DEFLATED = Member(
    4 + len(CONTENT), len(deflated(CONTENT)), len(CONTENT), is_deflated=True, crc=zlib.crc32(CONTENT)
)


@pytest.mark.parametrize("member", [STORED, DEFLATED], ids=["stored", "deflated"])
def test_a_member_is_read_where_it_lies(store, member):
    """Stored and deflated members give their content, whole or the beginning of it."""
    assert read_member(store, member, 10_000) == CONTENT
    assert peek_member(store, member, 7) == CONTENT[:7]


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (DEFLATED._replace(crc=1), "the archive is damaged here: wrong CRC"),
        (DEFLATED._replace(n_bytes=5), "the archive promises 5 bytes, but holds another number"),
        (STORED._replace(offset=4000), "the archive promises 1,300 bytes, but holds another number"),
    ],
)
def test_a_member_that_is_not_what_it_claims_is_corrupt(store, member, message):
    """Size and CRC are compared with what the archive promises."""
    assert read_member(store, member, 10_000) == Skipped("corrupt", message)


def test_bytes_that_do_not_unpack_are_corrupt(store):
    """Damaged deflate is a skipped image, and has no beginning to look at."""
    broken = Member(store.n_bytes - 50, 50, 99, is_deflated=True)
    found = read_member(store, broken, 10_000)
    assert found.reason == "corrupt"
    assert found.detail.startswith("the archive is damaged here: ")
    assert peek_member(store, broken, 10) == b""


@pytest.mark.parametrize(
    ("packed_bytes", "n_bytes", "message"),
    [
        (100, 100, None),
        (2000, 2_000_000, None),
        (1, 1_000_000, None),
        (100, 5_000_001, "5,000,001 bytes, the limit is 5,000,000"),
        (5_000_001, 100, "5,000,001 bytes packed, the limit is 5,000,000"),
        (1000, 2_000_000, "1,000 bytes claim to unpack to 2,000,000"),
    ],
)
def test_a_member_may_claim_so_much(store, packed_bytes, n_bytes, message):
    """Too many bytes, packed or not, or an absurd ratio are refused before reading."""
    member = Member(0, packed_bytes, n_bytes)
    fault = None if message is None else Skipped("too_large", message)
    assert too_large(member, 5_000_000) == fault
    if fault is not None:
        assert read_member(store, member, 5_000_000) == fault


def test_a_disk_that_fails_is_a_reason(store, monkeypatch):
    """An error of the disk is a skipped image."""

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    assert read_member(store, STORED, 10_000) == Skipped("unreadable", "store: Input/output error")
    assert peek_member(store, STORED, 10) == b""


def test_many_members_are_kept_in_few_bytes():
    """Each comes back as it was, in the order that was asked for."""
    kept = [Member(0, 0, 0), Member(2**62, 5, 7, True, 2**32 - 1), Member(9, 3, 3, False, 0)]
    members = Members()
    for member in kept:
        members.append(member)
    turned = members.take(np.array([2, 0, 1]))
    assert (len(members), len(turned), len(Members())) == (3, 3, 0)
    assert [members[index] for index in range(3)] == kept
    assert [turned[index] for index in range(3)] == [kept[2], kept[0], kept[1]]
