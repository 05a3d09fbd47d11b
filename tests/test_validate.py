"""Submissions with one thing wrong each: the report names it, its take and its frame."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from egopose.cli import main
from egopose.commands.validate import read_index, run_validate
from egopose.demo import walking_person
from egopose.errors import EgoposeError
from egopose.metrics.protocols.findings import Report
from egopose.skeleton import BODY17, BODY17_HANDS

FRAMES = list(range(0, 120, 3))


def person() -> np.ndarray:
    """(40, 59, 3) a walking person, world metres, z up."""
    return walking_person(np.array(FRAMES) / 30.0) + np.array([4.0, -2.0, 0.3])


def body(points: np.ndarray | None = None) -> dict[str, Any]:
    points = person()[:, BODY17_HANDS.indices(BODY17.joints)] if points is None else points
    take = {"take_name": "takes/unc_dance_1", "body": {str(f): p.tolist() for f, p in zip(FRAMES, points)}}
    return {"uid-1": take}


def head_camera(points: np.ndarray) -> np.ndarray:
    """World points in a landscape head camera at the nose: x towards the ground, z forward (along world x)."""
    relative = points - points[:, :1]
    return np.stack([-relative[..., 2], -relative[..., 1], relative[..., 0]], -1)


def hands() -> dict[str, Any]:
    """Hands in front of a head camera, in its landscape frame."""
    rng = np.random.default_rng(0)
    world = person()
    take: dict[str, Any] = {}
    for t, frame in enumerate(FRAMES):
        entry = {}
        for side in ("left", "right"):
            joints = [i for i, name in enumerate(BODY17_HANDS.joints) if name.startswith(f"{side}_hand_")]
            hand = world[t, joints] - world[t, joints[0]]
            centre = np.array([0.2, 0.1 if side == "left" else -0.1, 0.35]) + rng.normal(0, 0.03, 3)
            entry[f"{side}_hand_3d"] = (hand + centre).tolist()
        take[str(frame)] = entry
    return {"uid-1": take}


def hand_index(document: dict[str, Any]) -> dict[str, Any]:
    """A test list: boxes round the projections, no joints."""
    out: dict[str, Any] = {}
    for uid, take in document.items():
        out[uid] = {}
        for frame, entry in take.items():
            row: dict[str, Any] = {"metadata": {"take_name": "x", "take_uid": uid, "frame_number": int(frame)}}
            for side in ("left", "right"):
                p = np.array(entry[f"{side}_hand_3d"])
                uv = 150 * p[:, :2] / p[:, 2:] + 255.5
                row |= {f"{side}_hand_3d": [], f"{side}_hand_bbox": [*(uv.min(0) - 20), *(uv.max(0) + 20)]}
            out[uid][frame] = row
    return out


def check(tmp_path: Path, kind: Any, document: Any, index: Any = None) -> Report:
    path = tmp_path / "submission.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    where = None
    if index is not None:
        where = tmp_path / "index.json"
        where.write_text(json.dumps(index))
    return run_validate(kind, path, where)


def codes(report: Report, severity: str = "error") -> set[str]:
    return {finding.code for finding in report.findings if finding.severity == severity}


def test_good_submissions_pass(tmp_path: Path) -> None:
    for kind, document, index in (("body", body(), body()), ("hand", hands(), hand_index(hands()))):
        for against in (None, index):
            report = check(tmp_path, kind, document, against)
            assert report.ok, report.text()
            assert not codes(report, "warning"), report.text()


def test_the_other_track(tmp_path: Path) -> None:
    report = check(tmp_path, "body", hands())
    assert codes(report) == {"wrong-track"}
    assert "this is a hand file" in report.text()
    assert codes(check(tmp_path, "hand", body())) == {"wrong-track"}


def _edit(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    document["uid-1"] |= changes
    return document


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda d: d["uid-1"].pop("take_name"), "take-name"),
        (lambda d: d["uid-1"]["body"].pop("6"), "missing-frame"),
        (lambda d: d.pop("uid-1"), "missing-take"),
        (lambda d: d["uid-1"]["body"]["6"].pop(), "shape"),
        (lambda d: d["uid-1"]["body"].update({"6": None}), "shape"),
        (lambda d: d["uid-1"]["body"]["6"][2].__setitem__(1, math.nan), "not-finite"),
        (lambda d: d["uid-1"]["body"]["6"][2].__setitem__(1, math.inf), "not-finite"),
        (lambda d: d["uid-1"]["body"].update({"007": d["uid-1"]["body"]["6"]}), "frame-key"),
        (lambda d: d["uid-1"].pop("body"), "unreadable"),
    ],
)
def test_body_defects(change: Any, code: str, tmp_path: Path) -> None:
    document = body()
    change(document)
    report = check(tmp_path, "body", document, body())
    assert code in codes(report), report.text()
    if code in ("shape", "not-finite", "missing-frame"):
        finding = next(f for f in report.findings if f.code == code)
        assert (finding.take, finding.frame) == ("uid-1", 6)


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    [
        (lambda p: p * 1000, "unit", "error"),
        (lambda p: p * 100, "unit", "error"),
        (lambda p: p / 1000, "unit", "error"),
        (head_camera, "camera-frame", "error"),
        (lambda p: p - (p[:, 11:12] + p[:, 12:13]) / 2, "root-relative", "error"),
        (lambda p: p[..., [0, 2, 1]] * [1, -1, 1], "not-upright", "warning"),
        (lambda p: p + 20, "far-from-truth", "warning"),
        (lambda p: np.where(np.arange(17)[:, None] == 9, 0, p), "zeros", "warning"),
    ],
)
def test_body_coordinates(change: Any, code: str, severity: str, tmp_path: Path) -> None:
    points = change(person()[:, BODY17_HANDS.indices(BODY17.joints)])
    report = check(tmp_path, "body", body(points), body())
    assert code in codes(report, severity), report.text()


def _each_hand(document: dict[str, Any], change: Any) -> dict[str, Any]:
    for entry in document["uid-1"].values():
        for key in list(entry):
            entry[key] = change(np.array(entry[key])).tolist()
    return document


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    [
        (lambda h: h * 1000, "unit", "error"),
        (lambda h: h - h[0], "wrist-relative", "warning"),
        (lambda h: h * [1, 1, -1], "behind-camera", "error"),
        (lambda h: h + np.array([0, 0, 5]), "world-frame", "error"),
        (lambda h: np.stack([-h[:, 1], h[:, 0], h[:, 2]], -1), "portrait", "error"),
        (lambda h: h * 0 + h[0], "flat", "error"),
        (lambda h: h[:20], "shape", "error"),
        (lambda h: np.where(h > 1e9, h, np.nan), "not-finite", "error"),
        (lambda h: h[:0], "missing-hand", "error"),
    ],
)
def test_hand_coordinates(change: Any, code: str, severity: str, tmp_path: Path) -> None:
    report = check(tmp_path, "hand", _each_hand(hands(), change), hand_index(hands()))
    assert code in codes(report, severity), report.text()


def test_two_missing_hand_takes_hint_at_the_release(tmp_path: Path) -> None:
    index = hand_index(hands())
    report = check(tmp_path, "hand", hands(), {**index, "uid-2": index["uid-1"]})
    assert codes(report) == {"missing-take"}
    assert any("release" in finding.message for finding in report.findings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"u": {"take_name": "bike", "body": {}}, "u": {"take_name": "bike", "body": {}}}', "stands twice"),
        ('{"u": {"take_name": "bike", "body": {"1": [[1.0', "line 1"),
        ("{1: 2}", "not valid JSON"),
        ("", "empty"),
        ("[1, 2]", "expected an object"),
        ('{"u": [1]}', "annotation of one take"),
    ],
)
def test_unreadable_text(text: str, words: str, tmp_path: Path) -> None:
    report = check(tmp_path, "body", text)
    assert codes(report) == {"unreadable"}
    assert words in report.findings[0].message


@pytest.mark.parametrize(
    "index", [["uid-1"], {"uid-1": [0, 3, "6"]}, [{"take_uid": "uid-1", "take_name": "unc_dance_1"}]]
)
def test_kinds_of_index(index: Any, tmp_path: Path) -> None:
    assert check(tmp_path, "body", body(), index).ok
    short = body()
    del short["uid-1"]["body"]["3"]
    assert check(tmp_path, "body", short, index).ok == isinstance(index, list)


def test_an_index_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "i.json"
    for value in ({"a": 1}, [1], {"u": ["x"]}, hands()):
        path.write_text(json.dumps(value))
        with pytest.raises(EgoposeError):
            read_index(path, "body")


def test_many_findings_of_one_kind_are_counted(tmp_path: Path) -> None:
    document = body()
    for frame in document["uid-1"]["body"]:
        document["uid-1"]["body"][frame] = []
    report = check(tmp_path, "body", document)
    assert report.counts["shape"] == 40
    assert sum(f.code == "shape" for f in report.findings) == 10
    assert "40 findings" in report.text()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "sub.json", tmp_path / "sub.zip"
    path.write_text(json.dumps(body()))
    assert main(["validate", "body", str(path), "--zip", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == ["sub.json"]
        assert archive.read("sub.json") == path.read_bytes()
    out.unlink()
    path.write_text(json.dumps(hands()))
    assert main(["validate", "body", str(path), "--zip", str(out)]) == 1
    captured = capsys.readouterr()
    assert "this is a hand file" in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not out.exists()
    assert main(["validate", "hand", str(tmp_path / "none.json")]) == 1
