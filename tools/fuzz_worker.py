"""One process that feeds inputs to one reader; the campaign (``tools/fuzz.py``) starts it and watches it.

With atheris (libFuzzer for Python) inputs that reach new code are kept and damaged further; without it inputs are
damaged blindly. Either way the same checks judge what the reader does.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import mmap
import os
import random
import resource
import shutil
import struct
import sys
import time
import traceback
import warnings
import zlib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tools.fuzz_mutate import Files, mutate_blob, mutate_bytes, pack, unpack
from tools.fuzz_specials import specials

LIMIT_BYTES = 1 << 30
ROUND_TRIP_EVERY = 4
GOOD = 64
CHANNEL_BYTES = 8 << 20
_HEAD = struct.Struct("<QQQQddQQ")
"""Inputs, accepted, refused, findings; wall clock and processor time at the start of the current input (0: idle); its
length; peak memory in kB above the start."""


class Channel:
    """Counters and the current input in shared memory, so that the watcher knows what a dead worker was doing."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create:
            with open(path, "wb") as stream:
                stream.truncate(CHANNEL_BYTES)
        with open(path, "r+b") as stream:
            self.map = mmap.mmap(stream.fileno(), CHANNEL_BYTES)
        self.inputs = self.accepted = self.refused = self.findings = self.peak_kb = 0

    def begin(self, data: bytes) -> None:
        size = min(len(data), CHANNEL_BYTES - _HEAD.size)
        self.map[_HEAD.size : _HEAD.size + size] = data[:size]
        self._write(time.monotonic(), time.process_time(), size)

    def end(self) -> None:
        self._write(0.0, 0.0, 0)

    def _write(self, wall: float, cpu: float, size: int) -> None:
        _HEAD.pack_into(
            self.map, 0, self.inputs, self.accepted, self.refused, self.findings, wall, cpu, size, self.peak_kb
        )

    def look(self) -> dict[str, Any]:
        """What the worker last wrote."""
        values = _HEAD.unpack_from(self.map, 0)
        names = ("inputs", "accepted", "refused", "findings", "wall", "cpu", "size", "peak_kb")
        return dict(zip(names, values))

    def payload(self) -> bytes:
        size = self.look()["size"]
        return bytes(self.map[_HEAD.size : _HEAD.size + size])


class Findings:
    """Inputs that a reader got wrong, one file per kind and place in the code, with how often it happened."""

    def __init__(self, folder: Path, reader: str) -> None:
        self.folder, self.reader = folder, reader
        self.counts: dict[str, int] = {}

    def add(self, kind: str, where: str, message: str, data: bytes, trace: str = "") -> None:
        key = hashlib.sha256(f"{self.reader}|{kind}|{where}".encode()).hexdigest()[:12]
        count = self.counts[key] = self.counts.get(key, 0) + 1
        if count & (count - 1):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{self.reader}-{kind}-{key}"
        if not (self.folder / f"{name}.bin").exists():
            (self.folder / f"{name}.bin").write_bytes(data)
        about = {
            "reader": self.reader,
            "kind": kind,
            "where": where,
            "message": message[:2000],
            "count": count,
            "trace": trace,
        }
        (self.folder / f"{name}.json").write_text(json.dumps(about, indent=1))


class Reader:
    """A target with its seed, its files in memory-backed storage, and the judgement of each input."""

    def __init__(self, name: str, work: Path, *, limit: bool = True) -> None:
        from egopose.io import formats
        from tools.fuzz_targets import all_targets

        self.target = all_targets()[name]
        self.format = name if name in (entry.name for entry in formats()) else None
        self.work = work
        shutil.rmtree(work, ignore_errors=True)
        (work / "in").mkdir(parents=True)
        (work / "out").mkdir()
        self.path = self.target.build(work / "in")
        self.single = self.path.is_file()
        self.base = self.path.parent if self.single else self.path
        names = [self.path] if self.single else sorted(p for p in self.path.rglob("*") if p.is_file())
        self.files: Files = {str(p.relative_to(self.base)): p.read_bytes() for p in names}
        self.seed = next(iter(self.files.values())) if self.single else pack(self.files)
        self.there = dict(self.files)
        self.judge(self.seed)
        for extra in self.judge_ready():
            raise RuntimeError(f"{name}: the valid input is not read: {extra}")
        if limit:
            self.limit_memory()

    def judge_ready(self) -> list[str]:
        kind, _, message, _ = self.judge(self.seed)
        return [] if kind == "accepted" else [f"{kind}: {message}"]

    def limit_memory(self) -> None:
        """No more than a gigabyte above what the process has now."""
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        size = pages * resource.getpagesize() + LIMIT_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (size, size))

    def place(self, data: bytes) -> None:
        """Write the files of an input; those that did not change stay."""
        if self.single:
            self.path.write_bytes(data)
            return
        files = unpack(data)
        if files is None:
            # not a blob any more: the bytes take the place of the first file
            files = {**self.files, next(iter(self.files)): data}
        for name in self.there.keys() - files.keys():
            (self.base / name).unlink(missing_ok=True)
        for name, content in files.items():
            if self.there.get(name) != content:
                path = self.base / name
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                except OSError:
                    # a file where a folder should be, or a name too long: not an input that a disk can hold
                    continue
        self.there = files

    def judge(self, data: bytes) -> tuple[str, str, str, str]:
        """Feed one input.

        Returns:
            "accepted", "refused" or the kind of finding; where; message; trace.
        """
        from egopose.errors import EgoposeError
        from tools.fuzz_check import WrongAcceptance, check, own_format, round_trip

        self.place(data)
        try:
            found = self.target.read(self.path)
        except EgoposeError as error:
            text = str(error)
            if "\n" in text or len(text) > 4000:
                return "message", text[:40], text, ""
            return "refused", "", text, ""
        except BaseException as error:
            return self._unexpected(error)
        try:
            check(found)
            # writing is dearer than reading: a share of what is accepted, chosen by content
            if zlib.crc32(data) % ROUND_TRIP_EVERY == 0 or data == self.seed:
                round_trip(found, self.work / "out")
                if self.format is not None:
                    own_format(found, self.format, self.work / "out")
        except WrongAcceptance as error:
            return "acceptance", str(error)[:60], str(error), ""
        except EgoposeError as error:
            return "acceptance", "refused later", f"refused only after it was read: {error}", ""
        except BaseException as error:
            return self._unexpected(error)
        return "accepted", "", "", ""

    def _unexpected(self, error: BaseException) -> tuple[str, str, str, str]:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise error
        trace = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in trace if "egopose" in frame.filename and "tools" not in Path(frame.filename).parts]
        frame = (own or trace)[-1]
        where = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.name}"
        kind = "memory" if isinstance(error, MemoryError) else "exception"
        if isinstance(error, AssertionError):
            kind, where = "acceptance", str(error)[:60]
        if isinstance(error, Warning):
            kind = "warning"
        return kind, where, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)[-6:])


def serve(options: argparse.Namespace) -> None:
    """Feed a number of inputs to a reader, then end the process."""
    warnings.simplefilter("error")
    state = Path(options.state)
    rng = random.Random(options.seed)
    atheris, watched = _guide(options.guided)
    # whatever the reader needs is loaded while its valid input is read
    with watched:
        from egopose.errors import EgoposeWarning

        warnings.simplefilter("ignore", EgoposeWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        reader = Reader(options.reader, Path(options.work))
    channel = Channel(Path(options.channel))
    findings = Findings(state / "findings", options.reader)
    name = next(iter(reader.files)) if reader.single else None
    largest = max(4 * len(reader.seed), 4096)
    good = [reader.seed]
    base_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def one(data: bytes) -> None:
        channel.begin(data)
        kind, where, message, trace = reader.judge(data)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base_kb
        if peak > channel.peak_kb:
            channel.peak_kb = peak
            if peak > LIMIT_BYTES >> 10:
                kind, where, message = "memory", "resident", f"{peak >> 10} MB more than before"
        channel.inputs += 1
        if kind == "accepted" and len(data) <= largest:
            # good inputs are damaged as often as those that reach new code, or most would be refused at the door
            if len(good) < GOOD:
                good.append(data)
            else:
                good[channel.inputs % GOOD] = data
        if kind in ("accepted", "refused"):
            setattr(channel, kind, getattr(channel, kind) + 1)
        else:
            channel.findings += 1
            findings.add(kind, where, message, data, trace)
        channel.end()
        if channel.inputs >= options.inputs or kind == "memory":
            os._exit(0)

    if options.specials:
        for data in specials(reader.seed, reader.files, reader.single):
            one(data)
    corpus = state / "corpus" / options.reader
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "seed").write_bytes(reader.seed)
    if options.guided:

        def mutator(data: bytes, max_size: int, seed: int) -> bytes:
            rng.seed(seed)
            if rng.random() < 0.35:
                data = rng.choice(good)
            return mutate_blob(data, max_size, rng, atheris.Mutate, name)

        arguments = [sys.argv[0], f"-seed={options.seed + 1}", f"-max_len={largest}", "-timeout=100000",
                     "-rss_limit_mb=0",
                     "-detect_leaks=0", "-len_control=0", "-mutate_depth=1",
                     "-reload=0", "-print_final_stats=0", "-verbosity=0",
                     f"-artifact_prefix={options.work}/", str(corpus)]  # fmt: skip
        atheris.Setup(arguments, one, custom_mutator=mutator)
        atheris.Fuzz()
        os._exit(3)
    pool = [path.read_bytes() for path in sorted(corpus.iterdir())[:500]]
    while True:
        one(mutate_blob(rng.choice(pool), largest, rng, lambda data, size: mutate_bytes(data, rng)[:size], name))


def _guide(guided: bool) -> Any:
    """Atheris and a context in which modules of the package load under its eyes; compiled kernels stay as they are."""
    if not guided:
        return None, contextlib.nullcontext()
    import atheris

    kernels = [f"egopose.kernels.{path.stem}" for path in (ROOT / "kernels").glob("*.py")]
    return atheris, atheris.instrument_imports(include=["egopose"], exclude=["egopose.kernels", *kernels])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("reader", "state", "work", "channel"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("inputs", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--campaign", help="who started it, so that both are found by one name")
    parser.add_argument("--guided", action="store_true")
    parser.add_argument("--specials", action="store_true")
    serve(parser.parse_args())


if __name__ == "__main__":
    main()
