"""The command: what it writes, what it refuses, and how."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import egopose
from egopose.cli import main
from egopose.commands.triangulate import run_triangulate
from egopose.io.ego_exo4d_labels import label_camera
from egopose.triangulate.report import verdict
from tests.synthetic import Scene, walking_scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    return walking_scene(4, n_frames=24, hands=True, lens="fisheye", seed=71)


@pytest.fixture
def files(scene: Scene, tmp_path: Path) -> tuple[Path, Path]:
    egopose.save(scene.rig, tmp_path / "rig.json")
    egopose.save(scene.observations, tmp_path / "seen.npz")
    return tmp_path / "rig.json", tmp_path / "seen.npz"


def run(*arguments: object) -> int:
    try:
        return int(main([str(a) for a in arguments]) or 0)
    except SystemExit as stop:
        return int(stop.code or 0)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert run("triangulate", *arguments) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.strip()]
    assert len(lines) == 1, said
    return lines[0]


def test_writes_the_joints_and_prints_the_report(files, scene, tmp_path, capsys) -> None:
    assert run("triangulate", *files, "--out", tmp_path / "out.npz", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    pose = egopose.load(tmp_path / "out.npz")
    assert np.nanmedian(np.linalg.norm(pose.xyz - scene.truth.xyz, axis=-1)) < 5e-3
    assert report["summary"]["frames"] == 24
    quality = report["quality"]
    words = verdict(pose)
    assert quality["good"] == pytest.approx((words == "good").mean(), abs=1e-6)
    assert quality["good"] + quality["usable"] + quality["poor"] + quality["unknown"] == pytest.approx(1)
    assert quality["good"] > 0.9


def test_report_page_and_numbers(files, tmp_path, capsys) -> None:
    assert run("triangulate", *files, "--out", tmp_path / "out.npz", "--report", tmp_path / "report.html") == 0
    assert "<html" in (tmp_path / "report.html").read_text().lower()
    assert json.loads((tmp_path / "report.json").read_text())["summary"]["views"] == 4
    assert "24 frames x 59 joints" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".trc", ".csv", ".c3d"])
def test_other_formats_come_back(files, scene, tmp_path, suffix) -> None:
    if suffix == ".c3d":
        pytest.importorskip("ezc3d")
    out = tmp_path / f"out{suffix}"
    assert run("triangulate", *files, "--out", out) == 0
    pose = egopose.load(out)
    names = [joint for joint in pose.skeleton.joints if joint in scene.truth.skeleton.joints]
    assert len(names) == 59
    mine = pose.xyz[:, pose.skeleton.indices(names)]
    truth = scene.truth.xyz[:, scene.truth.skeleton.indices(names)]
    assert np.nanmedian(np.linalg.norm(mine - truth, axis=-1)) < 5e-3


def test_labels_in_the_official_layout(files, scene, tmp_path) -> None:
    out = tmp_path / "take.json"
    assert run("triangulate", *files, "--out", out) == 0
    assert run("triangulate", *files, "--out", tmp_path / "same.npz") == 0
    pose = egopose.load(tmp_path / "same.npz")
    body, hands = json.loads(out.read_text()), json.loads((tmp_path / "take.hand.json").read_text())
    assert list(body) == list(hands) == [str(t) for t in range(24)]
    frame = body["5"][0]
    wrist = frame["annotation3D"]["left-wrist"]
    index = pose.skeleton.index("left_wrist")
    np.testing.assert_allclose([wrist[a] for a in "xyz"], pose.xyz[5, index], atol=1e-6)
    assert 2 <= wrist["num_views_for_3d"] <= 4
    assert set(frame["annotation2D"]) == set(scene.rig.names)
    for name, joints in frame["annotation2D"].items():
        here = joints["left-wrist"]
        assert here["placement"] == "auto"
        flat = label_camera(scene.rig[name])
        np.testing.assert_allclose([here["x"], here["y"]], flat.project(pose.xyz[5, index][None])[0], atol=1e-2)
    assert set(hands["0"][0]["annotation3D"]) <= {
        name.replace("_hand_", "_") for name in scene.truth.skeleton.joints if "_hand_" in name
    }
    again = egopose.load(out)
    np.testing.assert_array_equal(again.xyz, pose.to_skeleton(again.skeleton).xyz)
    pixels = egopose.load(out, part="2d")
    assert pixels.undistorted
    assert pixels.n_views == 4
    assert egopose.load(tmp_path / "take.hand.json").n_joints == 42


def test_windows_give_the_same_and_leave_nothing_behind(files, tmp_path, capsys) -> None:
    assert run("triangulate", *files, "--out", tmp_path / "whole.npz") == 0
    assert run("triangulate", *files, "--out", tmp_path / "parts.npz", "--window", 9) == 0
    assert "in 3 windows of 9 frames" in capsys.readouterr().out
    one, two = (egopose.load(tmp_path / f"{name}.npz") for name in ("whole", "parts"))
    np.testing.assert_allclose(one.xyz, two.xyz, atol=1e-4)
    assert not list(tmp_path.glob("*.windows"))
    assert "at least one frame" in refused(capsys, *files, "--out", tmp_path / "o.npz", "--window", 0)


def test_raw_and_the_official_rule(files, tmp_path, capsys) -> None:
    assert run("triangulate", *files, "--out", tmp_path / "raw.npz", "--raw", "--json") == 0
    assert json.loads(capsys.readouterr().out)["found"] == {}
    assert run("triangulate", *files, "--out", tmp_path / "o.npz", "--protocol", "ego-exo4d", "--json") == 0
    assert json.loads(capsys.readouterr().out)["threshold"]["source"].startswith("the official rule")


def test_a_camera_missing_from_the_calibration_is_named(files, scene, tmp_path, capsys) -> None:
    egopose.save(scene.rig.subset(["cam01", "cam02", "cam04"]), tmp_path / "three.json")
    assert run("triangulate", tmp_path / "three.json", files[1], "--out", tmp_path / "o.npz") == 0
    assert "cam03" in "".join(capsys.readouterr())


def test_another_image_size_is_named(files, scene, tmp_path, capsys) -> None:
    egopose.save(scene.observations.replace(sizes=((960, 540),) * 4), tmp_path / "small.npz")
    code = run("triangulate", files[0], tmp_path / "small.npz", "--out", tmp_path / "o.npz")
    said = "".join(capsys.readouterr())
    assert "960" in said
    assert "1920" in said
    assert code in (0, 1)


def test_refusals(files, scene, tmp_path, capsys) -> None:
    rig, seen = files
    out = ["--out", tmp_path / "o.npz"]
    assert "no such file" in refused(capsys, tmp_path / "none.json", seen, *out)
    assert "expected calibrated cameras" in refused(capsys, seen, seen, *out)
    assert "expected 2D joints" in refused(capsys, rig, rig, *out)
    (tmp_path / "empty").mkdir()
    refused(capsys, rig, tmp_path / "empty", *out)
    assert "expected a number of pixels or auto" in refused(capsys, rig, seen, *out, "--threshold", "tight")
    assert "no protocol is named" in refused(capsys, rig, seen, *out, "--protocol", "other")
    (tmp_path / "one.mp4").write_bytes(b"x")
    assert "one video is one view" in refused(capsys, rig, tmp_path / "one.mp4", *out)
    for count in (1, 0):
        names = [f"cam0{i + 1}" if i < count else f"other{i}" for i in range(4)]
        renamed = type(scene.rig)([c.renamed(n) for c, n in zip(scene.rig.cameras, names)])
        egopose.save(renamed, tmp_path / "few.json")
        refused(capsys, tmp_path / "few.json", seen, *out)
    assert not (tmp_path / "o.npz").exists()


def test_a_calibration_with_nan_or_in_millimetres_is_refused(files, scene, tmp_path, capsys) -> None:
    content = json.loads(files[0].read_text())
    text = json.dumps(content)
    first = content["cameras"][0]["intrinsics"][0]
    (tmp_path / "nan.json").write_text(text.replace(json.dumps(first), "NaN", 1))
    refused(capsys, tmp_path / "nan.json", files[1], "--out", tmp_path / "o.npz")
    cameras = []
    for camera in scene.rig.cameras:
        T = camera.T_world_camera.copy()
        T[:3, 3] *= 1000
        cameras.append(camera.moved(T))
    egopose.save(type(scene.rig)(cameras), tmp_path / "mm.json")
    assert "metre" in refused(capsys, tmp_path / "mm.json", files[1], "--out", tmp_path / "o.npz")


def test_an_output_that_cannot_be_written_is_refused(files, tmp_path, capsys) -> None:
    (tmp_path / "file").touch()
    refused(capsys, *files, "--out", tmp_path / "file" / "o.npz")
    assert "no format writes" in refused(capsys, *files, "--out", tmp_path / "o.xyz")
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        refused(capsys, *files, "--out", tmp_path / "locked" / "o.npz")


def test_wrong_usage_is_2(capsys) -> None:
    assert run("triangulate", "--nonsense") == 2
    capsys.readouterr()


def test_nobody_in_view_is_refused(files, scene, tmp_path, capsys) -> None:
    empty = scene.observations.replace(uv_px=np.full_like(scene.observations.uv_px, np.nan))
    egopose.save(empty, tmp_path / "empty.npz")
    line = refused(capsys, files[0], tmp_path / "empty.npz", "--out", tmp_path / "out.npz")
    assert "nobody was found in any view" in line
    assert not (tmp_path / "out.npz").exists()


def test_the_calibration_of_another_capture_is_named(files, scene, tmp_path, capsys) -> None:
    # a ring turned by one camera would be a ring again
    first, second, *rest = scene.rig.names
    swapped = [second, first, *rest]
    mixed = [camera.renamed(name) for camera, name in zip(scene.rig.cameras, swapped)]
    egopose.save(egopose.Rig(mixed), tmp_path / "other.json")
    notes = {}
    for rig in ("rig.json", "other.json"):
        assert run("triangulate", tmp_path / rig, files[1], "--out", tmp_path / "out.npz", "--json") == 0
        notes[rig] = json.loads(capsys.readouterr().out)["notes"]
    assert not any("do not fit the cameras" in note for note in notes["rig.json"])
    assert any("do not fit the cameras" in note for note in notes["other.json"])


@pytest.mark.parametrize(
    ("shape", "words"), [((1, -1), "are turned"), ((1, 1), "another camera's"), ((2, 0), "scale the camera")]
)
def test_images_of_another_size_are_named_once(scene, shape, words) -> None:
    w, h = scene.rig.cameras[0].size
    size = {(1, -1): (h, w), (1, 1): (h, h), (2, 0): (2 * w, 2 * h)}[shape]
    assert w != h
    other = scene.observations.replace(sizes=(size, *scene.observations.sizes[1:]))
    _, report = run_triangulate(scene.rig, other)
    found = [note for note in report["notes"] if f"{size[0]}x{size[1]}" in note or f"{size[0]} x {size[1]}" in note]
    assert len(found) == 1
    assert words in found[0]
