"""Kill jobs at random moments, run them again, and compare with a run that nobody disturbed.

Each of five verbs runs as a small job in a child process. SIGKILL, SIGTERM or SIGINT comes after a share of the job's
processor time, drawn evenly from its whole length; sometimes several times before the job may end. After every kill
each file of a final name must open through its reader; at the end the files must equal those of the undisturbed run.
The same jobs then meet a full disk, a folder that cannot be written (both need the right to mount), and a file system
without locks.

Usage: python tools/kills.py [--kills 40] [--verbs predict,train] [--seed 0] [--out kills.json]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tools.kills_jobs import JOBS, Job, different, incomplete, leftovers

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def cpu_seconds(pid: int) -> float:
    """Processor time of a running child: on this clock a busy machine does not shift the moments."""
    return time.clock_gettime(((~pid) << 3) | 2)


def start(job: Job, work: Path, out: Path, prepare: Callable[[], None] | None = None) -> int:
    """Fork a child that runs the verb; everything is imported already, so that its time is the job's own."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open(work / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if prepare is not None:
            prepare()
        from egopose.cli import main

        status = main(job.arguments(work, out))
    except KeyboardInterrupt:
        # before the verb or after it
        status = 130
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def finish(pid: int) -> tuple[int, float]:
    """Exit status (negative for a signal) and processor time of a child."""
    _, raw, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(raw), usage.ru_utime + usage.ru_stime


def kill_after(pid: int, seconds: float, number: int) -> bool:
    """Send a signal when the child has used so much processor time; False when it ended before."""
    while True:
        try:
            if cpu_seconds(pid) >= seconds:
                os.kill(pid, number)
                return True
        except OSError:
            # the clock is gone with the child
            return False
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
        time.sleep(0.002)


@dataclass
class Outcome:
    """What the kills of one verb showed."""

    verb: str
    compared: str
    undisturbed_s: float
    kills: Counter[str] = field(default_factory=Counter)
    after_the_end: int = 0
    resumed: int = 0
    unlike: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    wrong_exit: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "kills": dict(self.kills), "total": sum(self.kills.values())}

    @property
    def good(self) -> bool:
        return not (self.unlike or self.incomplete or self.leftovers or self.wrong_exit)


def undisturbed(job: Job, work: Path, out: Path) -> float:
    """Run a job to its end twice; the second, warm run says how long it is.

    Raises:
        RuntimeError: It fails.
    """
    for folder in (work / "cold", out):
        folder.mkdir(parents=True)
        status, seconds = finish(start(job, work, folder))
        if status != 0:
            raise RuntimeError(f"{job.verb}: the undisturbed run ended with {status}; see {work / 'log.txt'}")
    shutil.rmtree(work / "cold")
    return seconds


def torment(job: Job, work: Path, kills: int, rng: random.Random) -> Outcome:
    """Kill a job many times, each time somewhere else, and resume it."""
    job.make(work)
    wanted = work / "undisturbed"
    seconds = undisturbed(job, work, wanted)
    found = Outcome(job.verb, job.compared, round(seconds, 2))
    round_ = 0
    while sum(found.kills.values()) < kills:
        out = work / f"out{round_}"
        out.mkdir()
        for _ in range(min(rng.choice((1, 1, 2, 3)), kills - sum(found.kills.values()))):
            number, before = rng.choice(SIGNALS), set(leftovers(out))
            pid = start(job, work, out)
            hit = kill_after(pid, rng.uniform(0, seconds), number)
            status, _ = finish(pid)
            name = signal.Signals(number).name
            if not hit or status == 0:
                # the job was faster this time: no kill, the folder starts anew
                found.after_the_end += 1
                shutil.rmtree(out)
                out.mkdir()
                continue
            found.kills[name] += 1
            expected = {"SIGKILL": (-9,), "SIGTERM": (143, -15), "SIGINT": (130, -2)}[name]
            if status not in expected:
                found.wrong_exit.append(f"{name}: {status}")
            found.incomplete += [f"{name} round {round_}: {what}" for what in incomplete(out)]
            if number != signal.SIGKILL and status in (143, 130):
                # of this run: what an earlier SIGKILL left goes when the same file is written again
                new = sorted(set(leftovers(out)) - before)
                found.leftovers += [f"{name} round {round_}: {what}" for what in new]
        status, _ = finish(start(job, work, out))
        found.resumed += 1
        if status != 0:
            found.unlike.append(f"round {round_}: the resumed run ended with {status}")
        else:
            found.unlike += [f"round {round_}: {what}" for what in different(wanted, out)]
            # the resumed run takes away what a SIGKILL left
            found.leftovers += [f"round {round_}, resumed: {what}" for what in leftovers(out)]
        if found.good:
            shutil.rmtree(out)
        round_ += 1
    return found


# full disk, read-only folder, no locks


@contextmanager
def mounted(place: Path, options: str) -> Iterator[bool]:
    """A small file system in memory; gives False where it cannot be mounted."""
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def full_disk(job: Job, work: Path) -> dict[str, Any]:
    """A disk that fills up at several points; then there is room and the job ends as if nothing had been."""
    sizes, problems, refusals = (0, 4, 16, 64, 256), [], 0
    with mounted(work / "disk", "size=8m") as there:
        if not there:
            return {"skipped": "nothing can be mounted here"}
        for free_kb in sizes:
            out = work / "disk" / "out"
            out.mkdir()
            ballast = work / "disk" / "ballast"
            room = shutil.disk_usage(work / "disk").free - 4096 * (free_kb // 4)
            ballast.write_bytes(bytes(max(0, room)))
            status, _ = finish(start(job, work, out))
            refusals += status == 1
            if status not in (0, 1):
                problems.append(f"{free_kb} kB free: exit status {status}")
            problems += [f"{free_kb} kB free: {what}" for what in incomplete(out)]
            ballast.unlink()
            remount(work / "disk", "size=64m")
            status, _ = finish(start(job, work, out))
            problems += [f"resumed with room: exit status {status}"] * (status != 0)
            problems += different(work / "undisturbed", out) if status == 0 else []
            shutil.rmtree(out)
            remount(work / "disk", "size=8m")
    return {"sizes_kb": list(sizes), "refused": refusals, "problems": problems}


def read_only(job: Job, work: Path) -> dict[str, Any]:
    """A folder that cannot be written is refused in one line."""
    with mounted(work / "ro", "size=8m") as there:
        if not there:
            return {"skipped": "nothing can be mounted here"}
        (work / "ro" / "out").mkdir()
        remount(work / "ro", "ro")
        (work / "log.txt").unlink(missing_ok=True)
        status, _ = finish(start(job, work, work / "ro" / "out"))
        lines = [
            line for line in (work / "log.txt").read_text().splitlines() if line and not line.startswith("warning")
        ]
        problems = [f"exit status {status}"] * (status != 1) + [f"{len(lines)} lines"] * (len(lines) != 1)
    return {"message": lines[-1][-200:] if lines else "", "problems": problems}


def _no_locks() -> None:
    """As on some network file systems: no locks, no sync of folders, no hard links."""
    import errno
    import fcntl
    import stat

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    real = os.fsync

    def fsync(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(number)

    fcntl.flock = fcntl.lockf = refuse
    os.fsync = fsync
    os.link = refuse


def no_locks(job: Job, work: Path) -> dict[str, Any]:
    """The same files come out where nothing can be locked."""
    out = work / "nolock"
    out.mkdir()
    status, _ = finish(start(job, work, out, _no_locks))
    problems = [f"exit status {status}"] if status else different(work / "undisturbed", out)
    return {"problems": problems}


def write_table(table: dict[str, Any]) -> None:
    """The kills of every verb as a table of the page about robustness."""
    from benchmarks.common import markdown, put_table

    head = ["verb", "length, s", "SIGKILL", "SIGTERM", "SIGINT", "resumed", "incomplete", "unlike", "left over",
            "compared by"]  # fmt: skip
    rows = []
    for verb, row in table.items():
        counts = [row["kills"].get(name, 0) for name in ("SIGKILL", "SIGTERM", "SIGINT")]
        wrong = [len(row[name]) for name in ("incomplete", "unlike", "leftovers")]
        rows.append([f"`{verb}`", row["undisturbed_s"], *counts, row["resumed"], *wrong, row["compared"]])
    trials = []
    for name in ("full_disk", "read_only", "no_locks"):
        found = {verb: row[name] for verb, row in table.items() if name in row}
        good = [verb for verb, result in found.items() if not result.get("problems") and "skipped" not in result]
        trials.append([name.replace("_", " "), ", ".join(f"`{v}`" for v in good), len(found) - len(good)])
    second = markdown(["trial", "passed by", "not passed"], trials)
    put_table("robustness.md", "kills", f"{markdown(head, rows)}\n\n{second}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=40, help="kills of each verb")
    parser.add_argument("--verbs", default=",".join(JOBS), help="only these, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the table here as JSON")
    parser.add_argument("--table", action="store_true", help="write the table of --out into docs/robustness.md")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it")
    options = parser.parse_args()
    if options.table:
        write_table(json.loads(options.out.read_text()))
        return 0
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    work = options.keep or Path(tempfile.mkdtemp(prefix="egopose-kills-"))
    table: dict[str, Any] = {}
    good = True
    try:
        for verb in options.verbs.split(","):
            job = JOBS[verb]
            job.warm()
            place = work / verb
            place.mkdir(parents=True)
            try:
                found = torment(job, place, options.kills, random.Random(f"{options.seed} {verb}"))
            except RuntimeError as error:
                print(error, flush=True)
                good = False
                continue
            table[verb] = found.to_dict()
            for name, trial in (("full_disk", full_disk), ("read_only", read_only), ("no_locks", no_locks)):
                table[verb][name] = trial(job, place)
                good &= not table[verb][name].get("problems")
            good &= found.good
            print(json.dumps(table[verb], indent=1), flush=True)
            if options.out:
                options.out.write_text(json.dumps(table, indent=1) + "\n")
    finally:
        if options.keep is None and good:
            shutil.rmtree(work, ignore_errors=True)
    total = sum(row["total"] for row in table.values())
    print(f"{total} kills; {'all files whole and equal' if good else f'SOMETHING IS WRONG, see {work}'}")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
