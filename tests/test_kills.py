"""Two kills of one verb, and what tells a whole file from a torn one, an equal result from another."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import egopose
from tests.io_cases import body_pose

pytest.importorskip("tools.kills", reason="the tools are not beside the tests")

from tools import kills, kills_jobs


def test_a_killed_evaluation_leaves_whole_files_and_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    command = [sys.executable, kills.__file__, "--kills", "2", "--verbs", "evaluate", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2400)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(out.read_text()).values()
    assert row["total"] == 2
    assert row["resumed"] >= 1
    assert row["unlike"] == row["incomplete"] == row["wrong_exit"] == []
    assert row["no_locks"] == {"problems": []}


def test_every_verb_has_a_job_with_words_for_its_comparison() -> None:
    assert set(kills_jobs.JOBS) == {"predict", "predict-video", "triangulate", "synth", "train", "evaluate"}
    assert all(job.compared for job in kills_jobs.JOBS.values())


def results(folder: Path) -> None:
    folder.mkdir()
    egopose.save(body_pose(), folder / "pose.npz")
    (folder / "scores.json").write_text('{"mpjpe_cm": 3.1}\n')
    lines = [{"kind": "train", "step": i, "seconds": 0.1 * i, "loss": 1.0} for i in range(3)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    clip = folder / "clip_000000"
    clip.mkdir()
    (clip / "clip.json").write_text("{}")
    np.save(clip / "images.npy", np.zeros((2, 3)))
    np.savez(clip / "labels.npz", a=np.zeros(3))


def test_torn_files_are_noticed(tmp_path: Path) -> None:
    results(tmp_path / "a")
    assert kills_jobs.incomplete(tmp_path / "a") == []
    for name in ("pose.npz", "scores.json", "log.jsonl", "clip_000000/images.npy", "clip_000000/labels.npz"):
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        path = tmp_path / "b" / name
        path.write_bytes(path.read_bytes()[:-4])
        assert len(kills_jobs.incomplete(tmp_path / "b")) == 1, name
    (tmp_path / "b" / "clip_000000" / "labels.npz").unlink()
    assert "clip_000000: lacks labels.npz" in kills_jobs.incomplete(tmp_path / "b")


def test_differences_are_noticed_and_measured_seconds_are_not(tmp_path: Path) -> None:
    results(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert kills_jobs.different(tmp_path / "a", tmp_path / "b") == []
    log = tmp_path / "b" / "log.jsonl"
    log.write_text(log.read_text().replace("0.2", "9.9"))
    (tmp_path / "b" / ".left.tmp").write_text("")
    assert kills_jobs.different(tmp_path / "a", tmp_path / "b") == []
    assert kills_jobs.leftovers(tmp_path / "b") == [".left.tmp"]
    log.write_text(log.read_text().replace('"loss": 1.0', '"loss": 1.5'))
    (tmp_path / "b" / "scores.json").write_text('{"mpjpe_cm": 3.2}\n')
    (tmp_path / "b" / "more.json").write_text("{}")
    assert kills_jobs.different(tmp_path / "a", tmp_path / "b") == [
        "more.json: only in one of them",
        "log.jsonl: content differs",
        "scores.json: bytes differ",
    ]


def test_kills_come_by_processor_time(tmp_path: Path) -> None:
    code = "import sys, time\nwhile time.process_time() < 30: pass"
    child = subprocess.Popen([sys.executable, "-c", code])
    assert kills.kill_after(child.pid, 0.3, signal.SIGKILL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == -9
    # long before its own end, however late this process gets its turn
    assert 0.25 < usage.ru_utime + usage.ru_stime < 20
    ended = subprocess.Popen([sys.executable, "-c", ""])
    assert not kills.kill_after(ended.pid, 60.0, signal.SIGKILL)
    assert ended.wait() == 0
    assert time.process_time() > 0


def test_a_resumed_log_holds_every_step_once(tmp_path: Path) -> None:
    from egopose.train.config import TrainConfig
    from egopose.train.record import Recorder

    config = TrainConfig(out=str(tmp_path), steps=4, log_every=1)
    with Recorder(tmp_path, config) as record:
        for step in (1, 2, 3):
            record.step(step, {"loss": 1.0}, 0.0)
    with open(tmp_path / "log.jsonl", "a") as stream:
        stream.write('{"kind": "train", "st')
    # the checkpoint was of step 2
    with Recorder(tmp_path, config, start=2) as record:
        for step in (3, 4):
            record.step(step, {"loss": 2.0}, 0.0)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]


@pytest.mark.parametrize("clean", [True, False])
def test_a_stopped_run_answers_for_its_own_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: bool
) -> None:
    """First SIGKILL, which leaves a file, then SIGTERM before anything is written; the last run tidies up."""
    left = iter([".killed.tmp", None if clean else ".stopped.tmp", None])
    statuses = iter([-9, 143, 0])

    def start(job: kills_jobs.Job, work: Path, out: Path) -> int:
        if name := next(left):
            (out / name).write_text("")
        return 1

    def finish(pid: int) -> tuple[int, float]:
        status = next(statuses)
        if status == 0:
            for path in tmp_path.rglob(".*.tmp"):
                path.unlink()
        return status, 1.0

    class Script(random.Random):
        def choice(self, options: Sequence[Any]) -> Any:
            return next(picks)

        def uniform(self, a: float, b: float) -> float:
            return 0.5

    picks = iter([2, signal.SIGKILL, signal.SIGTERM])
    monkeypatch.setattr(kills, "undisturbed", lambda job, work, out: out.mkdir() or 1.0)
    monkeypatch.setattr(kills, "start", start)
    monkeypatch.setattr(kills, "finish", finish)
    monkeypatch.setattr(kills, "kill_after", lambda pid, seconds, number: True)
    job = kills_jobs.Job("x", lambda work: None, lambda work, out: [], (), "bytes")
    found = kills.torment(job, tmp_path, 2, Script())
    assert found.leftovers == ([] if clean else ["SIGTERM round 0: .stopped.tmp"])
    assert found.good is clean
    assert sum(found.kills.values()) == 2
