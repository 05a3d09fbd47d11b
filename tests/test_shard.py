"""Sharded jobs: order, resuming, failures, dead workers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from egopose.errors import EgoposeError
from egopose.shard import Shard, dask_executor, process_pool, run_shards

from . import shard_jobs


def sums(count: int = 9) -> list[Shard]:
    values = np.random.default_rng(0).normal(size=(count, 100)) * 10.0 ** np.arange(count)[:, None]
    return [Shard(f"take {i}", {"values": row.tolist()}, weight=float(i % 3)) for i, row in enumerate(values)]


def reduced(outcomes: list) -> str:
    return float(sum(o.result for o in outcomes)).hex()


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_same_bits_for_any_number_of_workers(workers: int) -> None:
    alone = run_shards(shard_jobs.add, sums(), workers=0)
    with ThreadPoolExecutor(workers) as pool:
        shared = run_shards(shard_jobs.add, sums(), executor=pool)
    assert reduced(alone) == reduced(shared)
    assert [o.shard.name for o in shared] == [f"take {i}" for i in range(9)]


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    shards = [Shard("killer", {"mark": str(tmp_path / "mark")})]
    [outcome] = run_shards(shard_jobs.die_once, shards, workers=1)
    assert outcome.result == 7
    assert outcome.attempts == 2


def test_a_finished_shard_is_not_run_again(tmp_path: Path) -> None:
    manifest, log = tmp_path / "manifest.json", tmp_path / "log"
    shards = [Shard(f"s{i}", {"values": [i], "log": str(log)}) for i in range(4)]
    run_shards(shard_jobs.add, shards[:3], manifest=manifest, workers=0)
    outcomes = run_shards(shard_jobs.add, shards, manifest=manifest, workers=0)
    assert log.read_text() == "xxxx"
    assert [o.attempts for o in outcomes] == [0, 0, 0, 1]
    assert [o.result for o in outcomes] == [0, 1, 2, 3]


def test_changed_inputs_are_noticed(tmp_path: Path) -> None:
    data, log, manifest = tmp_path / "data", tmp_path / "log", tmp_path / "m.json"
    data.write_text("1")
    shard = Shard("s", {"values": [1], "log": str(log)}, inputs=(str(data),))
    run_shards(shard_jobs.add, [shard], manifest=manifest, workers=0)
    data.write_text("22")
    run_shards(shard_jobs.add, [shard], manifest=manifest, workers=0)
    assert log.read_text() == "xx"
    data.unlink()
    with pytest.raises(EgoposeError, match="cannot be read"):
        run_shards(shard_jobs.add, [shard], manifest=manifest, workers=0)


def test_one_failure_does_not_stop_the_rest(tmp_path: Path) -> None:
    [outcome] = run_shards(shard_jobs.refuse, [Shard("bad", {"message": "take 3: no\ncameras"})], workers=0)
    assert outcome.error == "take 3: no cameras"
    assert outcome.attempts == 1
    mark = tmp_path / "mark"
    [outcome] = run_shards(shard_jobs.crash, [Shard("bug", {"mark": str(mark)})], workers=0, retries=2)
    assert outcome.error is not None
    assert outcome.error.startswith("ZeroDivisionError: a bug (shard_jobs.py:")
    assert mark.read_text() == "xxx"


def test_wrong_manifests_and_names_are_refused(tmp_path: Path) -> None:
    manifest = tmp_path / "m.json"
    manifest.write_text("{}")
    with pytest.raises(EgoposeError, match="is not the manifest of"):
        run_shards(shard_jobs.add, sums(), manifest=manifest, workers=0)
    with pytest.raises(EgoposeError, match="used twice"):
        run_shards(shard_jobs.add, [sums()[0], sums()[0]], workers=0)
    assert run_shards(shard_jobs.add, [], workers=2) == []


def test_progress_reaches_one() -> None:
    seen: list[float] = []
    run_shards(shard_jobs.add, sums(4), workers=0, progress=lambda share, _: seen.append(share))
    assert seen == [0.25, 0.5, 0.75, 1.0]


def test_processes_and_dask_agree() -> None:
    distributed = pytest.importorskip("distributed")
    with process_pool(2) as pool:
        here = reduced(run_shards(shard_jobs.add, sums(), executor=pool))
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            protocol="tcp://",
            dashboard_address=":0",
            processes=False,
        ) as cluster,
        dask_executor(cluster.scheduler_address) as executor,
    ):
        there = reduced(run_shards(shard_jobs.add, sums(), executor=executor))
    assert here == there
