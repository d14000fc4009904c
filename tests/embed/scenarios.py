"""What processes do in the tests of the cache; each scenario prints what it found as JSON.

A scenario forks its processes itself, so that everything is imported once.
"""

import hashlib
import json
import os
import resource
import signal
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from pictures import saved
from small_datasets import InMemory, dataset_of, drawn, noise

from assay.data import loader
from assay.embed import cache
from assay.embed.cache import FeatureStore
from assay.embed.images import Features, embed_images
from assay.embed.tiny import TinyBackbone
from assay.errors import AssayError


def forked(work: Callable[[], None]) -> int:
    """The id of a child that does ``work`` and ends."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001  # a child never goes on as its parent would
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return child


def key(*parts: int) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def append_at_once(folder: Path, n_processes: str, n_chunks: str) -> dict:
    store = FeatureStore(folder / "store", 64)

    def rows_of(process: int, chunk: int) -> np.ndarray:
        return np.random.default_rng([process, chunk]).normal(size=(4, 64)).astype(np.float32)

    def work(process: int) -> None:
        for chunk in range(int(n_chunks)):
            contents = [key(process, chunk, place) for place in range(4)]
            store.append(contents, [process] * 4, rows_of(process, chunk))

    children = [forked(lambda process=process: work(process)) for process in range(int(n_processes))]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)
    snapshot = store.snapshot()
    intact = 0
    for process in range(int(n_processes)):
        for chunk in range(int(n_chunks)):
            for place, row in enumerate(rows_of(process, chunk).astype(np.float16)):
                at = snapshot.find(key(process, chunk, place))
                intact += at >= 0 and snapshot.flags(at) == process and np.array_equal(snapshot.rows[at], row)
    return {"stored": len(snapshot.index), "intact": int(intact)}


def read_only(folder: Path) -> dict:
    os.chdir(folder)
    store = FeatureStore(Path("store"), 2)
    store.append([key(1), key(2)], [0, 0], np.array([[1, 1], [2, 2]], np.float32))
    store.gather(np.array([1, 0]))  # imports what it needs while it may
    store.folder.chmod(0o555)
    folder.chmod(0o755)
    if os.getuid() == 0:
        os.setuid(65534)  # root may write anywhere
    snapshot = store.snapshot()
    rows = [snapshot.find(key(number)) for number in (1, 3, 2)]
    gathered = store.gather(np.array(rows)).tolist()
    try:
        store.append([key(3)], [0], np.zeros((1, 2), np.float32))
    except AssayError as error:
        return {"found": rows, "gathered": gathered, "error": str(error), "exit_code": error.exit_code}
    return {}


def limited(size: int) -> None:
    """No file may grow beyond ``size`` bytes from now on; a write that would fails, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def full(folder: Path) -> dict:
    store = FeatureStore(folder / "store", 64)
    first, second = np.ones((4, 64), np.float32), np.full((4, 64), 2, np.float32)
    store.append([key(n) for n in range(4)], [0] * 4, first)
    before = [(store.folder / name).read_bytes() for name in ("rows", "index")]
    limited(700)
    try:
        store.append([key(n) for n in range(4, 8)], [0] * 4, second)
    except AssayError as error:
        told = {"error": str(error), "exit_code": error.exit_code}
    snapshot = store.snapshot()
    kept = [(store.folder / name).read_bytes() for name in ("rows", "index")]
    told["kept"] = all(now.startswith(then) for now, then in zip(kept, before, strict=True)) and [
        snapshot.find(key(n)) for n in (0, 3, 4)
    ] == [0, 3, -1]
    limited(resource.RLIM_INFINITY)
    store.append([key(n) for n in range(4, 8)], [0] * 4, second)
    found = store.gather(np.array([store.snapshot().find(key(n)) for n in range(8)]))
    told["goes_on"] = np.array_equal(found, np.concatenate([first, second]))
    return told


def full_copy(folder: Path) -> dict:
    store = FeatureStore(folder / "store", 64)
    store.append([key(n) for n in range(4)], [0] * 4, np.ones((4, 64), np.float32))
    limited(700)
    try:
        store.gather(np.array([0, 1, 2, 3, 0, 1, 2, 3]))
    except AssayError as error:
        return {"exit_code": error.exit_code}
    return {}


def embedded(folder: Path) -> Features:
    """Both views of 24 images in three chunks, one image of which is broken."""
    loader.BATCH = 8
    files = drawn(24)
    files[5] = files[5][:100]
    return embed_images(dataset_of(files), TinyBackbone(), folder)


def killed_at_write(folder: Path) -> dict:
    """Killed in the middle of each of the twelve writes in turn; then the run goes on."""
    unbroken = embedded(folder / "unbroken")
    equal, computed = [], []
    write = cache._write_from
    for fatal in range(12):
        count = iter(range(100))

        def half(path: Path, offset: int, data: bytes, count=count, fatal=fatal) -> None:
            if next(count) < fatal:
                write(path, offset, data)
            else:
                write(path, offset, data[: len(data) * 2 // 3])
                os.kill(os.getpid(), signal.SIGKILL)

        cache._write_from = half
        child = forked(lambda fatal=fatal: embedded(folder / str(fatal)))
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        cache._write_from = write
        resumed = embedded(folder / str(fatal))
        equal.append(same(resumed, unbroken))
        computed.append(resumed.computed)
    return {"equal": equal, "computed": computed}


def peak_memory(folder: Path, number: str) -> dict:
    """The most memory that Python and NumPy held while that many images were embedded."""
    loader.BATCH = 40  # so that the reading ahead is at its most within 200 images
    picture = saved(noise(0, 64, 64), "BMP")

    class Varied(InMemory):
        def read(self, index: int) -> bytes:
            return picture[:-4] + index.to_bytes(4, "little")

    dataset = replace(dataset_of([b""] * int(number)), source=Varied([]))
    tracemalloc.start()
    features = embed_images(dataset, TinyBackbone(size=64), folder / number, mirrored=False)
    assert features.computed == int(number)
    return {"bytes": tracemalloc.get_traced_memory()[1]}


def same(one: Features, other: Features) -> bool:
    pairs = zip(one.views, other.views, strict=True)
    return all(np.array_equal(a, b) for a, b in pairs) and one.contents == other.contents


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])))
