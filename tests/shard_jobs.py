"""Jobs for the shard tests: workers import them by name."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from egopose.errors import EgoposeError


def add(values: list[float], log: str | None = None) -> float:
    if log is not None:
        with open(log, "a") as stream:
            stream.write("x")
    total = 0.0
    for value in values:
        total += value
    return total


def die_once(mark: str) -> int:
    """Kill the worker the first time."""
    if not Path(mark).exists():
        Path(mark).write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


def refuse(message: str) -> None:
    raise EgoposeError(message)


def crash(mark: str) -> None:
    with open(mark, "a") as stream:
        stream.write("x")
    raise ZeroDivisionError("a bug")
