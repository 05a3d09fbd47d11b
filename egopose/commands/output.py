"""What every verb shares: JSON on stdout, text for people, a progress bar on a terminal only."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from egopose.files import plain_json

Progress = Callable[[float, str], None]
"""Called with the share done in [0, 1] and what is going on."""


def emit(result: Mapping[str, Any], text: str, as_json: bool) -> None:
    """Print the result: one JSON object, or the text for people."""
    print(json.dumps(plain_json(result), indent=2) if as_json else text)


@contextlib.contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Progress | None]:
    """A progress callback with a bar on stderr when that is a terminal, None otherwise."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=f"{title}: {what}" if what else title)
