"""``--each TABLE``: a verb for every row of a table, over processes or a Dask cluster.

The command line is a template: ``{column}`` stands for the row's cell. Each row is one job of
:func:`egopose.shard.run_shards`: it is tried again when its worker dies, a row that fails does not stop the others, and
a run that was interrupted goes on where it stopped. What a row writes does not depend on how many workers there are.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import os
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egopose.commands.output import captured, emit, progress_bar
from egopose.errors import EgoposeError
from egopose.files import plain_json, read_text
from egopose.pools import Engine, one_thread, open_pool, work_in
from egopose.shard import Outcome, Shard, run_shards

VERBS = ("predict", "triangulate", "evaluate", "convert")
"""Verbs that take ``--each``."""
WRITTEN = ("--out", "--html", "--video", "--rerun")
"""Options that name a file which the verb writes under exactly this name."""
ALSO_WRITTEN = ("--report", "--png")
"""Options that name something else that the verb writes."""
POOLED = "egopose.commands.evaluate:evaluate_pose"
"""The verb whose rows add up to scores over all of them."""

HELP = """Many at once: --each TABLE runs this once for every row of a CSV table; {column} in any argument stands for
the row's cell, and an option whose cell is empty is left out. With it: --workers N (processes, default one per core),
or --engine dask --scheduler ADDRESS for an existing Dask cluster; --retries N; --manifest FILE (default: beside the
table). Started again, it goes on where it stopped."""


@dataclass(frozen=True)
class Options:
    """What stands beside the template."""

    each: Path
    workers: int | None = None
    engine: Engine = "processes"
    scheduler: str | None = None
    retries: int = 2
    manifest: Path | None = None
    json: bool = False


def split(arguments: Sequence[str]) -> tuple[Options | None, list[str]]:
    """Take the options of ``--each`` out of a command line.

    Returns:
        The options, None when ``--each`` is not there, and the template.

    Raises:
        EgoposeError: An option has no value or a wrong one.
    """
    if not any(word == "--each" or word.startswith("--each=") for word in arguments):
        return None, list(arguments)
    kinds: dict[str, Callable[[str], Any]] = {
        "each": Path, "workers": int, "engine": str, "scheduler": str, "retries": int, "manifest": Path,
    }  # fmt: skip
    found: dict[str, Any] = {}
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if word == "--json":
            found["json"] = True
        elif not word.startswith("--") or name not in kinds:
            rest.append(word)
        else:
            text = value if equals else next(words, None)
            try:
                found[name] = kinds[name](text if text is not None else "")
            except ValueError:
                raise EgoposeError(f"--{name} is {text!r}; expected a whole number") from None
            if not text:
                raise EgoposeError(f"--{name} has no value")
    if found.get("retries", 0) < 0:
        raise EgoposeError(f"--retries is {found['retries']}; expected 0 or more")
    return Options(**found), rest


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV table by column.

    Raises:
        EgoposeError: Not readable, no rows, a column without a name or twice, or a row of another length.
    """
    reader = csv.reader(io.StringIO(read_text(path)), strict=True)
    try:
        lines = [line for line in reader if line]
    except csv.Error as error:
        raise EgoposeError(f"{path}: is no CSV table, line {reader.line_num} ({error})") from error
    if len(lines) < 2:
        raise EgoposeError(f"{path}: holds no rows; expected a line of column names and one line per run")
    head = [name.strip().lstrip("\ufeff") for name in lines[0]]
    for name in head:
        if not name or head.count(name) > 1:
            raise EgoposeError(f"{path}: column {name!r} stands {head.count(name)} times; expected one name per column")
    for number, line in enumerate(lines[1:], start=1):
        if len(line) != len(head):
            raise EgoposeError(f"{path}, row {number}: {len(line)} cells; expected {len(head)} ({', '.join(head)})")
    return [dict(zip(head, (cell.strip() for cell in line))) for line in lines[1:]]


def fill(template: Sequence[str], row: Mapping[str, str], where: str) -> list[str]:
    """The template with a row's cells; an option is left out when its value is one empty cell.

    Raises:
        EgoposeError: The table has no such column.
    """

    def cell(match: re.Match[str]) -> str:
        if match[1] not in row:
            raise EgoposeError(f"{where}: no column {match[1]!r}; there are: {', '.join(row)}")
        return row[match[1]]

    result: list[str] = []
    for word in template:
        text = re.sub(r"\{(\w+)\}", cell, word)
        if not text and word:
            if result and result[-1].startswith("--"):
                result.pop()
            continue
        result.append(text)
    return result


def _files(target: str, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files that a command line reads, as far as they exist, and those that it writes."""
    reads, writes = [], []
    positional = 0
    for before, word in zip(["", *words], words):
        if word.startswith("--"):
            continue
        positional += not before.startswith("--")
        if before in WRITTEN or (target.endswith(":convert") and not before.startswith("--") and positional == 2):
            writes.append(word)
        elif before not in ALSO_WRITTEN:
            path = Path(word) if Path(word).exists() else Path(word.rpartition(":")[0] or word)
            if path.is_dir():
                reads += sorted(str(item) for item in path.iterdir() if item.is_file())
            elif path.is_file():
                reads.append(str(path))
    return reads, writes


def run_row(target: str, prog: str, words: list[str], folder: str) -> dict[str, Any]:
    """The job: one verb with one command line, in this process.

    Args:
        target: ``module:function`` of the verb.
        prog: How the verb is called in messages.
        words: Its arguments.
        folder: Where relative paths start; workers of a cluster start elsewhere.

    Returns:
        What the verb reports with ``--json``, and ``warnings``.

    Raises:
        EgoposeError: The verb refused its input or its options.
    """
    import tyro

    one_thread()
    work_in(folder)
    module, name = target.split(":")
    function = getattr(importlib.import_module(module), name)
    one_thread()
    for path in _files(target, words)[1]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with captured() as said, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tyro.cli(function, args=words, prog=prog, config=(tyro.conf.FlagCreatePairsOff,), console_outputs=False)
        except SystemExit as stop:
            if stop.code not in (0, 2):
                raise
            raise EgoposeError(f"the options do not fit {prog}: {' '.join(words)}") from None
    result = dict(said[-1]) if said else {}
    notes = list(dict.fromkeys(" ".join(str(item.message).split()) for item in caught))
    return plain_json({**result, "warnings": [*result.get("warnings", []), *notes]})


def shards(target: str, prog: str, template: Sequence[str], table: Path) -> list[Shard]:
    """One shard per row, named by the column ``name`` or ``take``, else by the number of the row.

    Raises:
        EgoposeError: The table does not fit the template, or two rows write one file.
    """
    made, written = [], dict[str, str]()
    folder = os.getcwd()
    for number, row in enumerate(read_table(table), start=1):
        name = row.get("name") or row.get("take") or f"row {number}"
        words = fill(template, row, f"{table}, row {number}")
        reads, writes = _files(target, words)
        for path in writes:
            if path in written:
                raise EgoposeError(f"{table}: rows {written[path]!r} and {name!r} both write {path}; use a {{column}}")
            written[path] = name
        size = sum(os.path.getsize(path) for path in reads)
        arguments = {"target": target, "prog": prog, "words": words, "folder": folder}
        made.append(Shard(name, arguments, tuple(reads), tuple(writes), weight=float(size)))
    return made


def run_each(target: str, prog: str, options: Options, template: Sequence[str]) -> int:
    """Run a verb for every row, print what became of them; the exit status.

    Raises:
        EgoposeError: The table, the template, the manifest or the pool cannot be used.
    """
    verb = prog.split()[1]
    if verb not in VERBS:
        raise EgoposeError(f"--each does not go with {verb}; it goes with {', '.join(VERBS)}")
    words = [*template, "--sums"] if target == POOLED else list(template)
    work = shards(target, prog, words, options.each)
    manifest = options.manifest or options.each.with_name(
        f"{options.each.stem}.{'-'.join(prog.split()[1:])}.done.jsonl"
    )
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(progress_bar(prog, quiet=options.json))
        pool = stack.enter_context(open_pool(options.engine, options.scheduler, options.workers, len(work)))
        outcomes = run_shards(
            run_row, work, manifest=manifest, executor=pool, workers=options.workers, retries=options.retries,
            progress=progress,
        )  # fmt: skip
    result = summary(outcomes, time.perf_counter() - start)
    result["manifest"] = str(manifest)
    text = [
        f"{result['done']} of {result['rows']} done ({result['known']} were), {result['seconds']:.1f} s; {manifest}"
    ]
    text += [f"failed: {name}: {error}" for name, error in result["failed"].items()]
    if target == POOLED and result["done"]:
        from egopose.commands.pooled import pool_scores, pooled_table

        result["pooled"] = pool_scores({o.shard.name: o.result for o in outcomes if o.error is None})
        text += ["", pooled_table(result["pooled"])]
    emit(result, "\n".join(text), options.json)
    return 1 if result["failed"] else 0


def summary(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """Counts, failures by name, and what was written."""
    good = [outcome for outcome in outcomes if outcome.error is None]
    return {
        "rows": len(outcomes),
        "done": len(good),
        "known": sum(outcome.attempts == 0 for outcome in good),
        "retried": {o.shard.name: o.attempts for o in outcomes if o.attempts > 1},
        "failed": {o.shard.name: o.error for o in outcomes if o.error is not None},
        "warnings": {o.shard.name: o.result["warnings"] for o in good if o.result.get("warnings")},
        "files": {path: state["sha256"] for o in good for path, state in o.files.items()},
        "seconds": seconds,
    }
