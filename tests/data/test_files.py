"""Files that the input names: which are opened, which are skipped and why, formats, natural order."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import picture, saved

from assay.data.files import (
    IMAGE_EXTENSIONS,
    Skipped,
    allowed_format,
    extension,
    foreign_format,
    natural_key,
    open_regular,
)

LIMIT = 1000


def reason(root: Path, entry: str, **options) -> str:
    found = open_regular(root, entry, max_bytes=LIMIT, **options)
    assert isinstance(found, Skipped), found
    return found.reason


@pytest.fixture
def root(tmp_path):
    """A folder with one file, and files that lie outside."""
    for name, content in (("images/a.png", b"inside"), ("secret.png", b"outside"), ("images-2/a.png", b"")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path / "images"


HOSTILE = {
    "": "an empty path",
    "../../etc/passwd": "a '..' part",
    "a/../b.png": "a '..' part",
    "a\\..\\..\\b": "a '..' part",
    "..": "a '..' part",
    "/etc/passwd": "an absolute path",
    "\\\\host\\x": "an absolute path",
    "//host/x": "an absolute path",
    "C:\\x": "a drive letter",
    "c:x.png": "a drive letter",
    "file:///x": "a URL",
    "file:x": "a URL",
    "https://example.org/a.png": "a URL",
    "data:image/png;base64,AAAA": "a URL",
    "a.png\0.txt": "a NUL character",
}


def test_a_hostile_entry_is_never_opened(root):
    """Fault 21: the text alone is refused, in words; Python's audit events show that nothing is opened."""
    opened, is_listening = [], [True]

    def hook(event, arguments):
        if is_listening and event == "open":  # a hook cannot be removed
            opened.append(arguments[0])

    sys.addaudithook(hook)
    try:
        found = {entry: open_regular(root, entry) for entry in HOSTILE}
        open_regular(root, "a.png")
    finally:
        is_listening.clear()
    expected = "expected a path below the images, got {}: {!r}"
    assert found == {
        entry: Skipped("bad_path", expected.format(words, entry)) for entry, words in HOSTILE.items()
    }
    assert opened == [str(root / "a.png")]


def test_a_regular_file_is_read(root):
    """Whole or its first bytes, through a link inside the root and a linked root too."""
    (root / "link.png").symlink_to("a.png")
    (root.parent / "door").symlink_to(root)
    assert open_regular(root, "a.png", max_bytes=6) == b"inside"
    assert open_regular(root, "a.png", first_bytes=2) == b"in"
    assert open_regular(root.parent / "door", "link.png", max_bytes=LIMIT) == b"inside"


@pytest.mark.parametrize("target", ["../secret.png", "../images-2/a.png"])
def test_a_link_that_leaves_is_skipped(root, target):
    """Fault 20: out of the root, or to a folder whose name only begins the same; on demand it is followed."""
    (root / "link.png").symlink_to(target)
    (root / "folder").symlink_to("../images-2")
    assert open_regular(root, "link.png") == Skipped(
        "outside_root", "'link.png' is a link that leaves the folder of images"
    )
    assert reason(root, "folder/a.png") == "outside_root"
    assert open_regular(root, "link.png", follow_symlinks=True) == (root / target).read_bytes()


def test_a_hard_link_is_read_like_a_file(root):
    """Fault 22: it cannot be told from a file, as the module says."""
    (root / "hard.png").hardlink_to(root.parent / "secret.png")
    assert open_regular(root, "hard.png") == b"outside"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, "permission"),
        (errno.ELOOP, "symlink_loop"),
        (errno.EIO, "unreadable"),
        (errno.ENXIO, "not_regular"),
    ],
)
@pytest.mark.parametrize("call", ["open", "read"])
def test_an_error_of_the_system_becomes_a_reason(root, monkeypatch, number, code, call):
    """Fault 24: a file without rights, or on a broken disk; simulated, since root reads all."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    closed, close = [], os.close
    monkeypatch.setattr(os, "close", lambda descriptor: (closed.append(descriptor), close(descriptor)))
    monkeypatch.setattr(os, call, refuse)
    assert open_regular(root, "a.png") == Skipped(code, f"'a.png': {os.strerror(number)}")
    assert len(closed) == (call == "read")


def test_a_long_file_is_not_read(root, monkeypatch):
    """The limit is checked before reading; what comes in parts, as from network disks, is read whole."""
    (root / "big.png").write_bytes(bytes(LIMIT + 1))
    assert open_regular(root, "big.png", max_bytes=LIMIT) == Skipped(
        "too_large", "'big.png' has 1,001 bytes, the limit is 1,000"
    )
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, n: read(descriptor, min(n, 2)))
    assert open_regular(root, "a.png", max_bytes=LIMIT) == b"inside"
    monkeypatch.setattr(os, "read", lambda *_: b"inside and more")
    assert reason(root, "a.png") == "changed"


HUGE = "1" + "0" * 5000
IN_ORDER = ["", "01.png", "1.png", "2.png", "10.png", f"{HUGE}.png", "a", "a9", "a10b2", "a10b10"]
names = st.text(st.characters(), max_size=8) | st.from_regex(r"[a0-9/\udcff]{0,8}", fullmatch=True)


@given(st.lists(names), st.integers(0, 10**30), st.integers(0, 10**30))
def test_natural_order_is_total(names, a, b):
    """Any str has a place, equal keys mean equal names; numbers of any length sort as numbers."""
    backwards, wanted = names[::-1], IN_ORDER[::-1]
    assert sorted(names, key=natural_key) == sorted(backwards, key=natural_key)
    assert sorted(wanted, key=natural_key) == IN_ORDER
    assert len({natural_key(name) for name in names}) == len(set(names))
    assert (natural_key(f"x{a}.png") < natural_key(f"x{b}.png")) == (a < b)


@pytest.mark.parametrize(
    ("head", "allowed", "foreign"),
    [
        *((saved(picture(), form), form, None) for form in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")),
        (b"\xff\x0a\x00", None, "JPEG XL"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg xmlns='x'/>", None, "SVG"),
        *((head, None, None) for head in (b"", b"\x89PN", b"<html>", b"BMW and other makers, a list")),
        *((head, None, None) for head in (b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x18ftypmp42", b"P7x")),
    ],
)
def test_a_format_is_known_by_its_first_bytes(head, allowed, foreign):
    """Fault 15: an allowed image, one of another format, and text, sound or film are told apart."""
    assert (allowed_format(head), foreign_format(head)) == (allowed, foreign)


def test_an_extension_is_the_end_of_the_last_part():
    """Fault 16: in lower case; that of a HEIC photo promises an image, which is skipped later."""
    names = {"a.JPG": ".jpg", "x.y/a": "", "x/a.tar.GZ": ".gz", ".png": "", "a.": "", "a\udcff.PnG": ".png"}
    assert {name: extension(name) for name in names} == names
    assert ".heic" in IMAGE_EXTENSIONS


def test_a_system_may_lack_flags_and_modules(tmp_path):
    """Without what Windows lacks, modules import, and files are written, read and refused as elsewhere."""
    script = """
import os, signal, sys
for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "getuid", "setsid"):
    delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGPROF"):
    delattr(signal, name)
sys.modules["resource"] = None
from pathlib import Path
from assay.data.files import open_regular
from assay.data.write import write_bytes_atomic
from assay.evaluate.cost import peak_memory_bytes
import assay.cli.app, assay.data.read, assay.embed.cache, assay.notebook.process
sys.platform = "win32"
write_bytes_atomic(Path("a.bin"), b"1\\r\\n2")
assert open_regular(Path("."), "a.bin") == b"1\\r\\n2"
assert open_regular(Path("."), "../a.bin").reason == "bad_path"
assert peak_memory_bytes() == 0
"""
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
