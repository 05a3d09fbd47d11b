"""Many takes over any ``concurrent.futures.Executor``: processes here, or an existing Dask cluster.

A job is a picklable function of one picklable shard (paths and ranges, never arrays) that writes its output itself,
atomically, and returns a small result. A manifest beside the outputs records each shard's identity and result, so
that an interrupted run goes on where it stopped and a failed shard does not stop the others. Results come back in
shard order whatever the workers did: a reduction has the same bits for 1, 2 or 7 workers and after any retry.
"""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import hashlib
import json
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egopose import __version__
from egopose.errors import EgoposeError, require
from egopose.files import read_json, write_json

MANIFEST_VERSION = 1


@dataclass(frozen=True)
class Shard:
    """One piece of work.

    Attributes:
        name: Unique, used in messages and in the manifest.
        arguments: JSON values passed to the job as keywords.
        inputs: Files whose size and modification time belong to the shard's identity.
        weight: Relative cost; heavier shards start first.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    weight: float = 1.0

    def key(self, job: str) -> str:
        """Hash of everything that decides the result: job, version, arguments, state of the inputs."""
        stats = []
        for path in self.inputs:
            try:
                stat = os.stat(path)
            except OSError as error:
                raise EgoposeError(f"shard {self.name!r}: input {path} cannot be read ({error.strerror})") from error
            stats.append([path, stat.st_size, stat.st_mtime_ns])
        text = json.dumps([job, __version__, self.arguments, stats], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Outcome:
    """What became of a shard.

    Attributes:
        shard: The shard.
        result: The job's return value, None when it failed.
        error: One line when it failed.
        attempts: How often it was tried in this run; 0 when it was taken from the manifest.
    """

    shard: Shard
    result: Any = None
    error: str | None = None
    attempts: int = 0


def _attempt(job: Callable[..., Any], arguments: dict[str, Any]) -> tuple[Any, str | None, bool]:
    """Run in the worker: result, one-line error, and whether trying again could help."""
    try:
        return job(**arguments), None, False
    except EgoposeError as error:
        return None, " ".join(str(error).split()), False
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return None, f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})", True


def run_shards(
    job: Callable[..., Any],
    shards: Sequence[Shard],
    *,
    manifest: str | os.PathLike[str] | None = None,
    executor: futures.Executor | None = None,
    workers: int | None = None,
    retries: int = 2,
    progress: Callable[[float, str], None] | None = None,
) -> list[Outcome]:
    """Run a job on every shard.

    Args:
        job: Module-level function; called with the shard's arguments. With a manifest its result must be a JSON
            value.
        shards: The work; names must be unique.
        manifest: JSON file that makes the run resumable; None keeps nothing.
        executor: Where to run; None makes a pool of processes.
        workers: Size of that pool; 0 runs in this process, None uses every core.
        retries: Further attempts for a shard whose worker died or raised something unexpected. Refused input is not
            tried again.
        progress: Called with the share done and the shard's name.

    Returns:
        One outcome per shard, in the order given.

    Raises:
        EgoposeError: Names repeat, an input cannot be read, or the manifest belongs to something else.
    """
    names = [shard.name for shard in shards]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise EgoposeError(f"shard name {twice!r} is used twice; names must be unique")
    job_name = f"{job.__module__}.{job.__qualname__}"
    keys = [shard.key(job_name) for shard in shards]
    known = _read_manifest(manifest, job_name)
    outcomes: list[Outcome | None] = [
        Outcome(shard, result=known[key]["result"]) if key in known else None for shard, key in zip(shards, keys)
    ]
    order = sorted((i for i, o in enumerate(outcomes) if o is None), key=lambda i: (-shards[i].weight, i))
    done = len(shards) - len(order)
    with contextlib.ExitStack() as stack:
        pool = executor
        if pool is None and workers != 0 and order:
            pool = stack.enter_context(process_pool(min(workers or os.cpu_count() or 1, len(order))))
        for i, outcome in _run(job, shards, order, pool, workers, retries):
            outcomes[i] = outcome
            done += 1
            if outcome.error is None:
                known[keys[i]] = {"name": shards[i].name, "result": outcome.result}
                if manifest is not None:
                    _write_manifest(manifest, job_name, known)
            if progress is not None:
                progress(done / len(shards), shards[i].name)
    return [outcome for outcome in outcomes if outcome is not None]


def _run(
    job: Callable[..., Any],
    shards: Sequence[Shard],
    order: list[int],
    pool: futures.Executor | None,
    workers: int | None,
    retries: int,
) -> Iterator[tuple[int, Outcome]]:
    attempts = dict.fromkeys(order, 0)
    if pool is None:
        for i in order:
            again, error, result = True, None, None
            while again and attempts[i] <= retries:
                attempts[i] += 1
                result, error, again = _attempt(job, shards[i].arguments)
            yield i, Outcome(shards[i], result, error, attempts[i])
        return
    waiting = list(order)
    own_pool: futures.Executor | None = None
    try:
        while waiting:
            current = own_pool or pool
            pending = {current.submit(_attempt, job, shards[i].arguments): i for i in waiting}
            waiting = []
            broken = False
            for future in futures.as_completed(pending):
                i = pending[future]
                attempts[i] += 1
                try:
                    result, error, again = future.result()
                except futures.process.BrokenProcessPool:
                    # one dead worker takes the whole pool with it: every unfinished shard is tried in a new one
                    broken = True
                    result, error, again = None, "the worker process died (killed, or out of memory)", True
                except Exception as failure:
                    result, error, again = None, f"the worker was lost: {failure}", True
                if error is not None and again and attempts[i] <= retries:
                    waiting.append(i)
                else:
                    yield i, Outcome(shards[i], result, error, attempts[i])
            if broken and waiting:
                if own_pool is not None:
                    own_pool.shutdown(wait=False, cancel_futures=True)
                own_pool = process_pool(min(workers or os.cpu_count() or 1, len(waiting)))
            waiting.sort(key=lambda i: (-shards[i].weight, i))
    finally:
        if own_pool is not None:
            own_pool.shutdown(wait=False, cancel_futures=True)


def process_pool(workers: int) -> futures.ProcessPoolExecutor:
    """A pool of fresh processes (spawn: no inherited threads or locks)."""
    return futures.ProcessPoolExecutor(max_workers=workers, mp_context=multiprocessing.get_context("spawn"))


@contextlib.contextmanager
def dask_executor(scheduler: str) -> Iterator[futures.Executor]:
    """An executor on an existing Dask cluster.

    Args:
        scheduler: Its address, such as ``tcp://127.0.0.1:8786``.

    Raises:
        MissingExtra: The extra ``[dask]`` is not installed.
        EgoposeError: The scheduler does not answer.
    """
    distributed = require("distributed", "dask")
    try:
        client = distributed.Client(scheduler, timeout="10s", set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise EgoposeError(
            f"no Dask scheduler answers at {scheduler} ({error}); start one or check the address"
        ) from error
    try:
        # a shard is idempotent, and its key must not be shared with an earlier identical call that failed
        yield client.get_executor(pure=False)
    finally:
        client.close()


def _read_manifest(path: str | os.PathLike[str] | None, job: str) -> dict[str, Any]:
    if path is None or not Path(path).exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or content.get("version") != MANIFEST_VERSION or content.get("job") != job:
        raise EgoposeError(
            f"{path}: is not the manifest of {job} (version {MANIFEST_VERSION}); give another output or delete it"
        )
    done = content.get("done")
    if not isinstance(done, dict) or not all(isinstance(v, dict) and "result" in v for v in done.values()):
        raise EgoposeError(f"{path}: the manifest is damaged; delete it to start over")
    return done


def _write_manifest(path: str | os.PathLike[str], job: str, done: dict[str, Any]) -> None:
    write_json(path, {"version": MANIFEST_VERSION, "job": job, "done": dict(sorted(done.items()))}, indent=None)
