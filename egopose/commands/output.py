"""What every verb shares: JSON on stdout, text for people, a progress bar on a terminal only."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from egopose.files import plain_json

Progress = Callable[[float, str], None]
"""Called with the share done in [0, 1] and what is going on."""


_kept: ContextVar[list[dict[str, Any]] | None] = ContextVar("kept", default=None)


@contextlib.contextmanager
def captured() -> Iterator[list[dict[str, Any]]]:
    """Results of the verbs that run inside, instead of their prints and progress bars (this thread only)."""
    results: list[dict[str, Any]] = []
    token = _kept.set(results)
    try:
        yield results
    finally:
        _kept.reset(token)


def emit(result: Mapping[str, Any], text: str, as_json: bool) -> None:
    """Print the result: one JSON object, or the text for people."""
    kept = _kept.get()
    if kept is not None:
        kept.append(plain_json(result))
        return
    print(json.dumps(plain_json(result), indent=2) if as_json else text)


@contextlib.contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Progress | None]:
    """A progress callback with a bar on stderr when that is a terminal, None otherwise."""
    if quiet or _kept.get() is not None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=f"{title}: {what}" if what else title)
