"""Where the jobs of :mod:`egopose.shard` run: processes of this machine, or an existing Dask cluster."""

from __future__ import annotations

import concurrent.futures as futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal, NoReturn

from egopose import __version__
from egopose.errors import EgoposeError, require

Engine = Literal["processes", "dask"]
"""Names of the places."""
GRACE_S = 5
"""Seconds that a worker without a parent has to remove its temporary files."""
WAIT_S = 30
"""Seconds that a cluster may take to have its first worker."""


def one_thread() -> None:
    """Numeric libraries of this process use one thread: a job per core, and the same bits whatever the core count."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "numba" in sys.modules:
        sys.modules["numba"].set_num_threads(1)


def work_in(folder: str) -> None:
    """Make relative paths start in a folder; a worker of a cluster starts elsewhere.

    Raises:
        EgoposeError: This worker does not see it.
    """
    if os.getcwd() != folder:
        try:
            os.chdir(folder)
        except OSError as error:
            raise EgoposeError(f"the worker does not see {folder} ({error.strerror}); share that folder") from error


def _leave(signum: int, frame: object) -> NoReturn:
    # through the normal path, so that temporary files are removed; a second signal must not cut that short
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + signum)


def _follow_parent() -> None:
    """End this process when its parent is gone (killed): nobody would collect its results."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(1)


def _start_worker() -> None:
    one_thread()
    threading.Thread(target=_follow_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, _leave)
    # Ctrl-C reaches the whole group; the parent decides and stops its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def process_pool(workers: int) -> futures.ProcessPoolExecutor:
    """A pool of fresh processes (spawn: no inherited threads or locks), one thread each."""
    return futures.ProcessPoolExecutor(
        max_workers=workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )


@contextlib.contextmanager
def stopping_pool(workers: int) -> Iterator[futures.ProcessPoolExecutor]:
    """A :func:`process_pool` that ends at once when the block is left by an exception (Ctrl-C, SIGTERM)."""
    before = set(multiprocessing.active_children())
    pool = process_pool(workers)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def dask_executor(scheduler: str) -> Iterator[futures.Executor]:
    """An executor on an existing Dask cluster, whose workers have this version of the package.

    Args:
        scheduler: Its address, such as ``tcp://127.0.0.1:8786``.

    Raises:
        MissingExtra: The extra ``[dask]`` is not installed.
        EgoposeError: The scheduler does not answer, has no worker, or a worker has another version.
    """
    distributed = require("distributed", "dask")
    try:
        client = distributed.Client(scheduler, timeout="10s", set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise EgoposeError(
            f"no Dask scheduler answers at {scheduler} ({error}); start one or check the address"
        ) from error
    try:
        _check_workers(client, scheduler)
        # a shard is idempotent, and its key must not be shared with an earlier identical call that failed
        yield client.get_executor(pure=False)
    finally:
        client.close()


def _version() -> str:
    return __version__


def _check_workers(client: Any, scheduler: str) -> None:
    try:
        client.wait_for_workers(1, timeout=WAIT_S)
        found = client.run(_version, on_error="return")
    except TimeoutError as error:
        raise EgoposeError(f"the Dask scheduler at {scheduler} has no worker; start some with: dask worker") from error
    for worker, version in found.items():
        if isinstance(version, Exception):
            raise EgoposeError(f"the Dask worker {worker} cannot import egopose ({version}); install it there")
        if version != __version__:
            raise EgoposeError(
                f"the Dask worker {worker} has egopose {version}, this is {__version__}; install the same everywhere"
            )


@contextlib.contextmanager
def open_pool(engine: Engine, scheduler: str | None, workers: int | None, jobs: int) -> Iterator[futures.Executor]:
    """The executor that a command line asks for.

    Args:
        engine: "processes" or "dask".
        scheduler: Address, for dask.
        workers: Processes, for processes; None: one per core, not more than jobs.
        jobs: Number of jobs.

    Raises:
        EgoposeError: The options do not belong together; see also :func:`dask_executor`.
    """
    if engine not in ("processes", "dask"):
        raise EgoposeError(f"no engine is named {engine!r}; there are: processes, dask")
    if (engine == "dask") != (scheduler is not None):
        lack = "--engine dask needs --scheduler ADDRESS" if engine == "dask" else "--scheduler belongs to --engine dask"
        raise EgoposeError(f"{lack}, such as tcp://127.0.0.1:8786")
    if engine == "dask" and workers is not None:
        raise EgoposeError("--workers belongs to --engine processes; a Dask cluster has its own number of workers")
    if workers is not None and workers < 1:
        raise EgoposeError(f"--workers is {workers}; expected at least 1")
    if scheduler is not None:
        with dask_executor(scheduler) as executor:
            yield executor
    else:
        with stopping_pool(min(workers or os.cpu_count() or 1, max(jobs, 1))) as pool:
            yield pool
