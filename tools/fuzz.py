"""Fuzz every reader of the package: damaged and hostile inputs, judged by what the reader does with them.

A reader may read an input or refuse it with one :class:`egopose.errors.EgoposeError`. Anything else is a finding:
another exception or a warning of a library, a crash of the process, more than five seconds, more than a gigabyte, or a
result that breaks the rules of its type or changes on the way through a writer. Findings are kept with their input in
STATE/findings; a run that was stopped goes on where it was.

Usage: python tools/fuzz.py [--inputs N] [--state .fuzz] [--readers c3d,trc] [--again] [--replay FILE --readers NAME]
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from egopose.files import read_json, write_json
from tools.fuzz_worker import Channel, Findings, Reader

SLICE = 10_000
HANG_CPU_S, HANG_WALL_S = 5.0, 60.0
TICK_S = 0.25


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def has_atheris() -> bool:
    """Whether inputs can be guided by coverage."""
    import importlib.util

    return importlib.util.find_spec("atheris") is not None


def quotas(total: int, names: list[str]) -> dict[str, int]:
    """Inputs for each reader, by share; they add up to at least the total."""
    from tools.fuzz_targets import all_targets

    targets = all_targets()
    weight = sum(targets[name].share for name in names)
    return {name: -int(-total * targets[name].share // weight) for name in names}


class Campaign:
    """A run over many readers, kept in a folder."""

    def __init__(self, state: Path, *, guided: bool | None = None) -> None:
        self.state = state
        self.guided = has_atheris() if guided is None else guided
        self.place = state / "campaign.json"
        self.readers: dict[str, dict[str, Any]] = read_json(self.place)["readers"] if self.place.exists() else {}
        self.broken: set[str] = set()
        """Readers whose worker does not start; they are left out."""
        memory = Path("/dev/shm")
        self.work = Path(tempfile.mkdtemp(prefix="egopose-fuzz-", dir=memory if memory.is_dir() else None))

    def close(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)

    def record(self, name: str) -> dict[str, Any]:
        empty = {"inputs": 0, "accepted": 0, "refused": 0, "findings": 0, "crashes": 0, "hangs": 0, "peak_mb": 0,
                 "seconds": 0.0, "cpu_s": 0.0, "slices": 0}  # fmt: skip
        return self.readers.setdefault(name, empty)

    def save(self) -> None:
        total = sum(record["inputs"] for record in self.readers.values())
        write_json(self.place, {"inputs": total, "guided": self.guided, "readers": dict(sorted(self.readers.items()))})

    def run(self, wanted: dict[str, int], seconds: float = float("inf")) -> int:
        """Give every reader the inputs that it lacks, in turns; returns the number of findings."""
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            open_ = [name for name, count in wanted.items() if self.record(name)["inputs"] < count
                     and name not in self.broken]  # fmt: skip
            if not open_:
                break
            for name in open_:
                left = seconds - (time.monotonic() - start)
                if left <= 0:
                    break
                self.slice(name, min(SLICE, wanted[name] - self.record(name)["inputs"]), left)
        return sum(record["findings"] for record in self.readers.values()) + len(self.broken)

    def slice(self, name: str, inputs: int, seconds: float) -> None:
        """One worker: a number of inputs, or until it dies or time is up."""
        record = self.record(name)
        channel_path = self.work / "channel"
        channel = Channel(channel_path, create=True)
        seed = zlib.crc32(f"{name} {record['slices']}".encode()) & 0x7FFFFFFF
        command = [sys.executable, str(ROOT / "tools" / "fuzz_worker.py"), "--reader", name, "--state", str(self.state),
                   "--work", str(self.work / "files"), "--channel", str(channel_path), "--inputs", str(inputs),
                   "--seed", str(seed), "--campaign", "tools/fuzz.py"]  # fmt: skip
        command += ["--guided"] * self.guided + ["--specials"] * (not record.get("specials", False))
        start, spent = time.monotonic(), _children_cpu()
        env = {**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1",
               "OPENBLAS_NUM_THREADS": "1", "EGOPOSE_CACHE": str(self.work / "cache"),
               "EGOPOSE_FUZZ_KEPT": str(self.work)}  # fmt: skip
        log = self.state / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "wb") as stream:
            worker = subprocess.Popen(command, stdout=stream, stderr=stream, env=env, cwd=ROOT)
            try:
                why = self._watch(worker, channel, start + seconds)
            finally:
                if worker.poll() is None:
                    worker.kill()
                worker.wait()
        seen, payload = channel.look(), channel.payload()
        if seen["inputs"] == 0 and why == "ended" and not seen["wall"]:
            print(f"{name}: the worker did not start; see {log}", flush=True)
            self.broken.add(name)
            return
        record["specials"] = True
        # a worker that ends between two inputs is no fault of a reader
        dead = why == "ended" and worker.returncode != 0
        kind = "hangs" if why == "hang" else "crashes" if dead and seen["wall"] else None
        if dead and not seen["wall"]:
            print(f"{name}: the worker ended by itself ({worker.returncode}); see {log}", flush=True)
        if kind is not None:
            where = "more than 5 s" if kind == "hangs" else f"exit status {worker.returncode}"
            Findings(self.state / "findings", name).add(
                kind.rstrip("es"), f"{where} {record['slices']}", where, payload
            )
            record[kind] += 1
            record["findings"] += 1
            record["inputs"] += 1
        for key in ("inputs", "accepted", "refused", "findings"):
            record[key] += seen[key]
        record["peak_mb"] = max(record["peak_mb"], seen["peak_kb"] >> 10)
        record["seconds"] = round(record["seconds"] + time.monotonic() - start, 2)
        record["cpu_s"] = round(record["cpu_s"] + _children_cpu() - spent, 2)
        record["slices"] += 1
        self.save()
        total = sum(r["inputs"] for r in self.readers.values())
        rate = seen["inputs"] / max(_children_cpu() - spent, 1e-9)
        tail = f" ({kind})" if kind else ""
        told = f"{seen['inputs']} inputs, {rate:.0f} per second of processor, {seen['accepted']} read"
        print(f"{total:>8} {name}: {told}, {record['findings']} findings{tail}", flush=True)

    def _watch(self, worker: subprocess.Popen[bytes], channel: Channel, until: float) -> str:
        """Wait for a worker; stop it when one input takes too long, by its processor time or, asleep, by the clock."""
        per_second = os.sysconf("SC_CLK_TCK")
        stamp, waited = 0.0, 0
        while worker.poll() is None:
            if time.monotonic() > until:
                worker.kill()
                return "time"
            seen = channel.look()
            try:
                fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            # looks are counted, not seconds: a campaign that is paused for a while has not waited
            waited = waited + 1 if seen["wall"] == stamp and stamp and fields[0] != "T" else 0
            stamp = seen["wall"]
            spent = (int(fields[11]) + int(fields[12])) / per_second - seen["cpu"]
            if stamp and (spent > HANG_CPU_S or waited * TICK_S > HANG_WALL_S):
                worker.kill()
                return "hang"
            time.sleep(TICK_S)
        return "ended"


def replay(reader: str, file: Path) -> str:
    """Judge one kept input in this process, without limits; prints the trace and returns the verdict."""
    import warnings

    from egopose.errors import EgoposeWarning

    warnings.simplefilter("error")
    warnings.simplefilter("ignore", EgoposeWarning)
    warnings.simplefilter("ignore", DeprecationWarning)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        kind, where, message, trace = Reader(reader, Path(folder) / "work", limit=False).judge(file.read_bytes())
        print(f"{file.name}: {kind} {where}\n  {message[:600]}\n{trace}({time.process_time() - start:.1f} s)")
        return kind


def again(state: Path) -> int:
    """Judge every kept finding again, each in its own process; those that are mended are moved to STATE/mended."""
    left = 0
    for about in sorted((state / "findings").glob("*.json")):
        reader = read_json(about)["reader"]
        file = about.with_suffix(".bin")
        command = [sys.executable, __file__, "--readers", reader, "--replay", str(file)]
        limit = 20 * (1 << 30)
        try:
            done = subprocess.run(["prlimit", f"--as={limit}", *command], capture_output=True, text=True, timeout=60)
            mended = done.returncode == 0
        except subprocess.TimeoutExpired:
            mended = False
        if mended:
            (state / "mended").mkdir(exist_ok=True)
            for path in (about, file):
                path.rename(state / "mended" / path.name)
        else:
            left += 1
            print(f"{about.stem}: still wrong")
    return left


def table(state: Path) -> None:
    """The counts of a campaign as a table of the page about robustness."""
    from benchmarks.common import markdown, put_table

    kept = read_json(state / "campaign.json")
    keys = ("inputs", "accepted", "refused", "findings", "peak_mb")
    readers = {name: record for name, record in kept["readers"].items() if record["inputs"]}
    inputs = sum(record["inputs"] for record in readers.values())
    rows = [[f"`{name}`", *(f"{record[key]:,}" for key in keys)] for name, record in readers.items()]
    total = [f"{sum(record[key] for record in readers.values()):,}" for key in keys[:-1]]
    most = max(record["peak_mb"] for record in readers.values())
    rows.append(["all", *total, f"{most:,}"])
    how = "guided by coverage (atheris)" if kept["guided"] else "blind"
    head = ["reader", "inputs", "read", "refused", "findings", "most memory, MB"]
    put_table("robustness.md", "fuzz", f"{how.capitalize()}, {inputs:,} inputs:\n\n" + markdown(head, rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, help="inputs over all readers")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--state", type=Path, default=ROOT / ".fuzz", help="folder of corpus, findings and counts")
    parser.add_argument("--readers", default="", help="only these, separated by commas")
    parser.add_argument("--blind", action="store_true", help="without coverage guidance")
    parser.add_argument("--forget", action="store_true", help="count these readers from 0, with their corpus")
    parser.add_argument("--again", action="store_true", help="judge the kept findings again")
    parser.add_argument("--table", action="store_true", help="write the counts of STATE into docs/robustness.md")
    parser.add_argument("--replay", type=Path, help="judge one input for the one reader named")
    options = parser.parse_args()
    if options.replay:
        return int(replay(options.readers, options.replay) not in ("accepted", "refused"))
    if options.table:
        table(options.state)
        return 0
    if options.again:
        return int(again(options.state) > 0)
    from tools.fuzz_targets import all_targets

    names = options.readers.split(",") if options.readers else list(all_targets())
    campaign = Campaign(options.state, guided=False if options.blind else None)
    if options.forget:
        for name in names:
            campaign.readers.pop(name, None)
    # stopped by either signal, even where a shell started it with interrupts ignored
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        found = campaign.run(quotas(options.inputs, names), options.seconds)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        campaign.close()
    print(f"{sum(r['inputs'] for r in campaign.readers.values())} inputs, {found} findings in {options.state}")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
