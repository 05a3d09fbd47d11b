"""A campaign of fuzzing notices what is wrong, survives what dies, and goes on where it was stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import egopose
from egopose.errors import EgoposeError

pytest.importorskip("tools.fuzz", reason="the tools are not beside the tests")
# some targets damage files of extras
for extra in ("pyarrow", "onnx", "onnxruntime"):
    pytest.importorskip(extra)

from tools import fuzz, fuzz_targets  # noqa: E402

TARGETS = fuzz_targets.all_targets()


def build(folder: Path) -> Path:
    (folder / "x.json").write_text('{"a": [1, 2, 3]}')
    return folder / "x.json"


def crash(path: Path) -> Any:
    if b"[" not in path.read_bytes():
        os.kill(os.getpid(), signal.SIGSEGV)


def hang(path: Path) -> Any:
    if b"[" not in path.read_bytes():
        while True:
            pass


def eat(path: Path) -> Any:
    if b"[" not in path.read_bytes():
        return bytearray(2 << 30)


def leak(path: Path) -> Any:
    if b"[" not in path.read_bytes():
        raise KeyError("not an EgoposeError")


def wrong(path: Path) -> Any:
    pose = egopose.PoseSequence(egopose.BODY17, np.arange(2), np.arange(2.0), np.zeros((2, 17, 3)))
    if b"[" not in path.read_bytes():
        pose.xyz[0, 0, 0] = np.inf
    return pose


def refuse(path: Path) -> Any:
    if b"[" not in path.read_bytes():
        raise EgoposeError("one line")


@pytest.mark.parametrize(
    ("read", "kind"),
    [(crash, "crash"), (hang, "hang"), (eat, "memory"), (leak, "exception"), (wrong, "acceptance"), (refuse, None)],
)
def test_the_campaign_notices(
    read: Callable[[Path], Any], kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "HANG_CPU_S", 1.0)
    # the worker is another process: it finds the broken reader through this file
    plan = tmp_path / "sitecustomize.py"
    plan.write_text(
        "import tools.fuzz_targets as targets\nfrom tests.test_fuzz_campaign import build, " + read.__name__ + "\n"
        f"targets.all_targets = lambda: {{'broken': targets.Target('broken', build, {read.__name__})}}\n"
    )
    root = Path(fuzz.__file__).resolve().parent.parent
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{root}")
    campaign = fuzz.Campaign(tmp_path / "state", guided=False)
    try:
        campaign.slice("broken", 60, 60.0)
    finally:
        campaign.close()
    record = campaign.readers["broken"]
    found = [path.name.split("-")[1] for path in (tmp_path / "state" / "findings").glob("*.bin")]
    assert set(found) == ({kind} if kind else set())
    assert (record["findings"] > 0) == (kind is not None)
    if kind is None:
        assert record["inputs"] == 60
        assert record["refused"] > 0
    else:
        # the input that did it is kept
        for path in (tmp_path / "state" / "findings").glob("*.bin"):
            assert b"[" not in path.read_bytes()


def test_a_stopped_campaign_goes_on(tmp_path: Path) -> None:
    for wanted, total in ((30, 30), (50, 50), (50, 50)):
        campaign = fuzz.Campaign(tmp_path, guided=False)
        assert campaign.run({"validate-index": wanted}) == 0
        campaign.close()
        assert egopose.files.read_json(tmp_path / "campaign.json")["inputs"] == total


def test_shares_add_up() -> None:
    wanted = fuzz.quotas(1_000_000, list(TARGETS))
    assert 1_000_000 <= sum(wanted.values()) < 1_000_000 + len(wanted)
    assert min(wanted.values()) > 500
