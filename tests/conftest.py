"""For every test: shapes are checked, no network, a cache of its own."""

import os
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest
from chromium import chromium
from hypothesis import settings
from jaxtyping import config, install_import_hook
from shape_checks import check_quickly
from svg_pictures import Picture

# Each core has a worker: two threads in each would wait for each other. Before torch is first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is tested is what any machine does; of a graphics processor, the choices that do not need it.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

# Before any test file imports assay: the hook rewrites modules as they are first imported.
check_quickly()
install_import_hook("assay", "shape_checks.checked")

# The first example of a property pays for imports, so no deadline; CI tries the same examples each time.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's cache is neither read nor written; processes that a test starts inherit this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("ASSAY_OFFLINE", "1")
        # What one process that a test starts has compiled, the next need not.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def _threads_decode() -> Iterator[None]:
    """Starting worker processes takes a second; those tests that are about them say so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.data.loader.FEW", 10_000)
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """A connection to another machine fails the test; this machine may be reached."""
    with pytest.MonkeyPatch.context() as patch:
        for method in ("connect", "connect_ex"):
            patch.setattr(socket.socket, method, _only_this_machine(getattr(socket.socket, method)))
        yield


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """As users run it: arrays that do not fit reach our own checks and their messages."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


def _only_this_machine(connect):
    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            # Not an OSError: code that is ready for a missing network must not hide it.
            raise AssertionError(f"a test tried to reach {address[0]}: tests have no network")
        return connect(self, address)

    return guarded


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture
def seen() -> Callable[[str], Picture]:
    """Parses an SVG text; one that is not well-formed fails."""
    return Picture


@pytest.fixture(scope="module")
def chrome():
    """Chromium, for the tests of one file: while it runs, no other loop may run in this thread."""
    with chromium() as found:
        yield found
