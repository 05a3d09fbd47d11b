"""``--each``: every row once, the same bits for any number of workers, failures named, interrupted runs continued."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egopose.cli import main
from egopose.commands.each import Options, fill, read_table, split
from egopose.commands.pooled import pool_scores
from egopose.commands.pose_scores import run_evaluate_pose, score_pairs
from egopose.errors import EgoposeError
from egopose.files import sha256_file
from egopose.io import save
from egopose.manifest import Manifest
from egopose.pose import PoseSequence
from egopose.skeleton import BODY17

TAKES, ROWS = 9, 150


def sequence(seed: int, frames: int = 40, *, holes: bool = True) -> PoseSequence:
    rng = np.random.default_rng(seed)
    xyz = np.cumsum(rng.normal(scale=0.01, size=(frames, 17, 3)), axis=0) + rng.normal(size=(17, 3))
    if holes:
        xyz[rng.random((frames, 17)) < 0.05] = np.nan
    return PoseSequence(BODY17, np.arange(frames), np.arange(frames) / 30, xyz.astype(np.float32))


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("takes")
    rows = []
    for k in range(TAKES):
        truth = sequence(k, 20 + 7 * k)
        noise = np.random.default_rng(100 + k).normal(scale=0.02, size=truth.xyz.shape)
        save(truth, folder / f"truth_{k}.npz")
        save(truth.replace(xyz=(truth.xyz + noise).astype(np.float32)), folder / f"pred_{k}.npz")
        rows.append([f"take {k}", f"pred_{k}.npz", f"truth_{k}.npz"])
    with open(folder / "takes.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([["name", "pred", "truth"], *rows])
    return folder


def evaluate(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", "pose", "{pred}", "{truth}", "--each", "takes.csv", "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_pooled_scores_are_the_same_bits_for_any_number_of_workers(
    takes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(takes)
    found = [
        evaluate(takes, capsys, "--workers", str(n), "--manifest", str(tmp_path / f"{n}.jsonl"))["pooled"]
        for n in (1, 2, 7)
    ]
    assert found[0] == found[1] == found[2]
    # the independent truth: all takes at once in one process
    from egopose.commands.pose_scores import pair_up
    from egopose.io import load

    names = BODY17.joints
    pairs = [pair_up(load(f"pred_{k}.npz"), load(f"truth_{k}.npz"), names, "") for k in range(TAKES)]
    whole = score_pairs(pairs, names)
    auc = whole["metrics"].pop("auc_0_150mm")
    assert found[0]["metrics"]["auc_0_150mm_by_1mm"] == pytest.approx(auc, abs=1e-4)
    for name, value in whole["metrics"].items():
        assert found[0]["metrics"][name] == pytest.approx(value, rel=1e-9), name
    assert found[0]["per_joint_mm"] == pytest.approx(whole["per_joint_mm"], rel=1e-9)
    assert found[0]["coverage"]["joints_expected"] == whole["coverage"]["joints_expected"]
    assert len(found[0]["takes_mpjpe_mm"]) == TAKES


def test_sums_add_up_in_any_order_and_damage_is_refused(takes: Path) -> None:
    rows = {
        str(k): run_evaluate_pose(takes / f"pred_{k}.npz", takes / f"truth_{k}.npz", root="left_hip", sums=True)
        for k in range(3)
    }
    forward, backward = pool_scores(rows), pool_scores(dict(reversed(rows.items())))
    assert forward["metrics"] == backward["metrics"]
    assert forward["metrics"]["root_mpjpe_mm"] > 0
    less = run_evaluate_pose(takes / "pred_0.npz", takes / "truth_0.npz", joints=["nose"], sums=True)
    with pytest.raises(EgoposeError, match="other joints"):
        pool_scores({**rows, "less": less})
    with pytest.raises(EgoposeError, match="no sums"):
        pool_scores({"a": {}})
    rows["0"]["sums"]["takes"][0]["sums"][0] = rows["0"]["sums"]["takes"][0]["sums"][2]
    with pytest.raises(EgoposeError, match="expected"):
        pool_scores(rows)


def test_a_row_that_fails_is_named_and_the_rest_is_done(
    takes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(takes)
    table = tmp_path / "t.csv"
    table.write_text("name,pred\na,pred_0.npz\nb,absent.npz\nc,pred_2.npz\n")
    command = ["convert", "{pred}", str(tmp_path / "out/{name}.trc"), "--each", str(table), "--workers", "2"]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert "2 of 3 done" in said
    assert "failed: b: absent.npz" in said
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.trc", "c.trc"]
    # what is there is not written again; what is gone or changed is
    before = (tmp_path / "out/a.trc").stat().st_mtime_ns
    content = (tmp_path / "out/c.trc").read_bytes()
    (tmp_path / "out/c.trc").write_bytes(content[:-1] + b"!")
    assert main([*command, "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["done"], result["known"]) == (2, 1)
    assert (tmp_path / "out/a.trc").stat().st_mtime_ns == before
    assert (tmp_path / "out/c.trc").read_bytes() == content
    assert result["files"] == {str(tmp_path / f"out/{n}.trc"): sha256_file(tmp_path / f"out/{n}.trc") for n in "ac"}


def test_templates_and_tables() -> None:
    row = {"a": "x", "b": "", "c": "{a}"}
    assert fill(["{a}.npz", "--camera", "{b}", "--out", "o/{a}{c}"], row, "t") == ["x.npz", "--out", "o/x{a}"]
    with pytest.raises(EgoposeError, match="no column 'q'; there are: a, b, c"):
        fill(["{q}"], row, "t, row 1")
    options, rest = split(["x", "--each=t.csv", "--workers", "3", "--out", "y", "--json"])
    assert options == Options(Path("t.csv"), workers=3, json=True)
    assert rest == ["x", "--out", "y"]
    assert split(["x", "--workers", "3"]) == (None, ["x", "--workers", "3"])
    for wrong in (["--each"], ["--each", "t", "--workers", "two"], ["--each", "t", "--retries", "-1"]):
        with pytest.raises(EgoposeError):
            split(wrong)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no rows"),
        ("a,b\n", "no rows"),
        ("a,a\n1,2\n", "stands 2 times"),
        ("a,\n1,2\n", "one name per column"),
        ("a,b\n1\n", "row 1: 1 cells"),
        ('a,b\n"1,2\n', "no CSV table"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(EgoposeError, match=what):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["convert", "{pred}", "one.trc"], "both write one.trc"),
        (["view", "{pred}"], "does not go with view"),
        (["convert", "{pred}", "{name}.trc", "--engine", "dask"], "needs --scheduler"),
        (["convert", "{pred}", "{name}.trc", "--scheduler", "tcp://127.0.0.1:1"], "belongs to --engine dask"),
        (["convert", "{pred}", "{name}.trc", "--engine", "ray"], "no engine is named 'ray'"),
        (["convert", "{pred}", "{name}.trc", "--workers", "0"], "expected at least 1"),
    ],
)
def test_wrong_options_are_refused(
    takes: Path, words: list[str], what: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(takes)
    before = set(takes.iterdir())
    assert main([*words, "--each", "takes.csv"]) == 1
    assert what in capsys.readouterr().err
    assert set(takes.iterdir()) == before


def test_options_that_do_not_fit_the_verb_are_one_line(
    takes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(takes)
    words = ["convert", "{pred}", str(tmp_path / "{name}.trc"), "--sing", "--each", "takes.csv", "--workers", "1"]
    assert main([*words, "--manifest", str(tmp_path / "m")]) == 1
    assert f"failed: take {TAKES - 1}: the options do not fit egopose convert" in capsys.readouterr().out


def test_a_cut_journal_is_read_and_a_foreign_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with Manifest(path, "job") as manifest:
        for k in range(3):
            manifest.add(f"key {k}", f"shard {k}", {"n": k}, {})
    whole = path.read_bytes()
    for cut in range(len(whole) - 40, len(whole)):
        path.write_bytes(whole[:cut])
        assert set(Manifest(path, "job").done) == {"key 0", "key 1"}
    with Manifest(path, "job") as manifest:
        manifest.add("key 2", "shard 2", {"n": 2}, {})
    assert path.read_bytes() == whole
    with pytest.raises(EgoposeError, match="is not the manifest of other"):
        Manifest(path, "other")
    path.write_bytes(whole.replace(b'"result":{"n":1}', b'"rosult":{"n":1}'))
    with pytest.raises(EgoposeError, match="line 3: is damaged"):
        Manifest(path, "job")


def alive(session: int) -> list[str]:
    """Processes of a session that are not zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def noted(table: Path) -> int:
    """Rows that the manifest of a run holds."""
    manifest = table.with_name(f"{table.stem}.convert.done.jsonl")
    return manifest.read_bytes().count(b"\n") - 1 if manifest.exists() else 0


def wait_for(table: Path, rows: int, process: subprocess.Popen[Any]) -> None:
    """Until a run has noted so many rows, or has ended."""
    end = time.monotonic() + 600
    while noted(table) < rows and process.poll() is None:
        assert time.monotonic() < end, "the run does not get on"
        time.sleep(0.005)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_terminated_run_ends_at_once_and_goes_on(takes: Path, tmp_path: Path) -> None:
    # on a machine that stalls a run may be over before it is seen to have begun: then from the start
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        table = folder / "many.csv"
        table.write_text("name,pred\n" + "".join(f"r{k},{takes}/pred_{k % TAKES}.npz\n" for k in range(ROWS)))
        command = [sys.executable, "-m", "egopose", "convert", "{pred}", str(folder / "out/{name}.trc"),
                   "--each", str(table), "--workers", "2"]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for(table, 20, process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
        done = noted(table)
        assert process.returncode == 143 or done == ROWS
        assert "Traceback" not in said
        assert not [p for p in folder.rglob("*") if ".tmp" in p.name]
        if process.returncode != 143:
            continue
        # killed outright, nothing can be cleaned up; but no worker stays behind
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)  # fmt: skip
        wait_for(table, done + 20, process)
        process.kill()
        killed = process.wait() == -signal.SIGKILL
        end = time.monotonic() + 120
        while alive(process.pid) and time.monotonic() < end:
            time.sleep(0.1)
        assert not alive(process.pid)
        assert not [p for p in folder.rglob("*") if ".tmp" in p.name]
        if killed:
            break
    else:
        raise AssertionError("no run could be interrupted")
    assert 20 <= done < ROWS
    known = noted(table)
    finished = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    result = json.loads(finished.stdout)
    assert result["done"] == ROWS
    assert result["known"] == known >= 40
    assert len(list(folder.glob("out/*.trc"))) == ROWS
