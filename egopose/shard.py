"""Many takes over any ``concurrent.futures.Executor``: processes here, or an existing Dask cluster.

A job is a picklable function of one picklable shard (paths and ranges, never arrays) that writes its output itself,
atomically, and returns a small result. A manifest beside the outputs records each shard's identity and result, so
that an interrupted run goes on where it stopped and a failed shard does not stop the others. Results come back in
shard order whatever the workers did: a reduction has the same bits for 1, 2 or 7 workers and after any retry.
"""

from __future__ import annotations

import collections
import concurrent.futures as futures
import contextlib
import hashlib
import json
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from egopose import __version__
from egopose.errors import EgoposeError
from egopose.manifest import Manifest, file_state, intact
from egopose.pools import dask_executor, process_pool, stopping_pool

IN_FLIGHT = 32
"""Most shards that are handed to the workers at a time; a dead pool loses at most these."""


@dataclass(frozen=True)
class Shard:
    """One piece of work.

    Attributes:
        name: Unique, used in messages and in the manifest.
        arguments: JSON values passed to the job as keywords.
        inputs: Files whose size and modification time belong to the shard's identity.
        outputs: Files that the job writes. Their hashes stand in the manifest, and a shard whose files are gone or
            changed is run again.
        weight: Relative cost; heavier shards start first.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
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
        files: Size and SHA-256 of each of the shard's outputs.
    """

    shard: Shard
    result: Any = None
    error: str | None = None
    attempts: int = 0
    files: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Try:
    """What a worker sends back: the result, or one line about the failure and whether trying again could help."""

    result: Any = None
    error: str | None = None
    again: bool = False
    files: dict[str, Any] = field(default_factory=dict)


def _attempt(job: Callable[..., Any], arguments: dict[str, Any], outputs: tuple[str, ...]) -> _Try:
    """Run in the worker."""
    try:
        result = job(**arguments)
        return _Try(result, files={path: file_state(path) for path in outputs})
    except EgoposeError as error:
        return _Try(error=" ".join(str(error).split()))
    except SystemExit:
        return _Try(error="the worker was told to stop", again=True)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return _Try(error=f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})", again=True)


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
        manifest: File that makes the run resumable (see :mod:`egopose.manifest`); None keeps nothing.
        executor: Where to run; None makes a pool of processes that ends with the run.
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
    with Manifest(manifest, job_name) as done, contextlib.ExitStack() as stack:
        outcomes: list[Outcome | None] = [_known(shard, done.done.get(key)) for shard, key in zip(shards, keys)]
        order = sorted((i for i, o in enumerate(outcomes) if o is None), key=lambda i: (-shards[i].weight, i))
        finished = len(shards) - len(order)
        pool = executor
        if pool is None and workers != 0 and order:
            pool = stack.enter_context(stopping_pool(min(workers or os.cpu_count() or 1, len(order))))
        for i, outcome in _run(job, shards, order, pool, workers, retries):
            outcomes[i] = outcome
            finished += 1
            if outcome.error is None:
                done.add(keys[i], shards[i].name, outcome.result, outcome.files)
            if progress is not None:
                progress(finished / len(shards), shards[i].name)
    return [outcome for outcome in outcomes if outcome is not None]


def _known(shard: Shard, entry: dict[str, Any] | None) -> Outcome | None:
    if entry is None or not intact(entry["files"]):
        return None
    return Outcome(shard, entry["result"], files=entry["files"])


def _run(
    job: Callable[..., Any],
    shards: Sequence[Shard],
    order: list[int],
    pool: futures.Executor | None,
    workers: int | None,
    retries: int,
) -> Iterator[tuple[int, Outcome]]:
    attempts = dict.fromkeys(order, 0)

    def outcome(i: int, found: _Try) -> Outcome:
        return Outcome(shards[i], found.result, found.error, attempts[i], found.files)

    if pool is None:
        for i in order:
            found = _Try(again=True)
            while found.again and attempts[i] <= retries:
                attempts[i] += 1
                found = _attempt(job, shards[i].arguments, shards[i].outputs)
            yield i, outcome(i, found)
        return
    queue, alone = collections.deque(order), collections.deque[int]()
    pending: dict[futures.Future[_Try], int] = {}
    with contextlib.ExitStack() as stack:
        shared: futures.Executor | None = pool
        single: futures.Executor | None = None
        while queue or alone or pending:
            if alone and not pending:
                # one dead worker takes its whole pool along; by itself a shard answers for its own death only
                single = single or stack.enter_context(stopping_pool(1))
                i = alone.popleft()
                pending[single.submit(_attempt, job, shards[i].arguments, shards[i].outputs)] = i
            else:
                while queue and not alone and len(pending) < IN_FLIGHT:
                    shared = shared or stack.enter_context(stopping_pool(workers or os.cpu_count() or 1))
                    i = queue.popleft()
                    pending[shared.submit(_attempt, job, shards[i].arguments, shards[i].outputs)] = i
            for future in futures.wait(pending, return_when=futures.FIRST_COMPLETED).done:
                i = pending.pop(future)
                attempts[i] += 1
                died = False
                try:
                    found = future.result()
                except futures.process.BrokenProcessPool:
                    died = True
                    shared, single = (shared, None) if single is not None else (None, None)
                    found = _Try(error="the worker process died (killed, or out of memory)", again=True)
                except Exception as failure:
                    found = _Try(error=f"the worker was lost: {failure}", again=True)
                if not found.again or attempts[i] > retries:
                    yield i, outcome(i, found)
                else:
                    (alone if died else queue).append(i)


__all__ = ["Outcome", "Shard", "dask_executor", "process_pool", "run_shards"]
