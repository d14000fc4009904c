"""A Ray cluster of this machine's own gives the same shards, also when one of its processes is killed."""

import signal

import psutil
import pytest
from small_runs import draw_data

from assay.data.read import read_dataset
from assay.pipeline.sharded import EmbedShard
from assay.scale.engine import Engine, map_shards
from assay.scale.rows import write_rows

# Ray and what it imports use what other packages have deprecated.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.slow
def test_ray_gives_the_same_bytes_and_does_the_shards_of_a_killed_process(tmp_path):
    """None is lost, none is done twice; the cluster is gone afterwards, and signals are handled as before."""
    handler = signal.getsignal(signal.SIGTERM)
    data = draw_data(tmp_path / "data", 120)
    facts = write_rows(read_dataset(data.images, data.read), tmp_path / "rows", data.read, 20)

    def embed(cache):
        network = ("tiny", 160, None, "auto", cache)
        return EmbedShard(tmp_path / "rows", cache, facts, network, mirrored=True, workers=1)

    local = {found["shard"]: found for found in map_shards(embed(tmp_path / "local"), range(6))}
    seen, killed = [], []
    for found in map_shards(embed(tmp_path / "ray"), range(6), Engine("ray", workers=1, parallel=1)):
        seen.append(found)
        if not killed:
            killed = [process for process in below() if "MapWorker" in process.name()]
            for process in killed:
                process.kill()
    assert killed
    assert {found["shard"]: found for found in seen} == local
    assert len(seen) == 6
    assert written(tmp_path / "ray") == written(tmp_path / "local")
    assert not [process for process in below() if "ray" in process.name().lower()]
    assert signal.getsignal(signal.SIGTERM) is handler


def below():
    return psutil.Process().children(recursive=True)


def written(cache):
    shards = cache / "shards"
    return {str(path.relative_to(shards)): path.read_bytes() for path in shards.rglob("*.parquet")}
