"""``egopose view`` as users call it, and the live scene."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from egopose import load, save
from egopose.cli import main
from egopose.commands.view import load_pose, run_view
from egopose.demo import exo_capture
from egopose.errors import EgoposeError
from tests.view_samples import pair


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    capture = exo_capture(seconds=1)
    pose, truth = pair(30, first=0)
    made = {"pose": pose, "truth": truth, "keypoints": capture.observations, "rig": capture.rig}
    paths = {name: tmp_path / f"{name}.npz" for name in made}
    paths["rig"] = tmp_path / "rig.toml"
    for name, obj in made.items():
        save(obj, paths[name])
    return paths


def test_a_page_appears_beside_the_file(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(files["pose"])]) == 0
    page = files["pose"].with_suffix(".html")
    assert page.is_file()
    out = capsys.readouterr().out
    assert str(page) in out
    assert "30 frames" in out


def test_everything_at_once_as_json(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(
        ["view", str(files["pose"]), "--against", str(files["truth"]), "--rig", str(files["rig"]), "--keypoints",
         str(files["keypoints"]), "--html", str(tmp_path / "out" / "a.html"), "--png",
         str(tmp_path / "plots"), "--json"]
    )  # fmt: skip
    assert status == 0
    told = json.loads(capsys.readouterr().out)
    assert Path(told["html"]["path"]).stat().st_size == told["html"]["bytes"]
    assert {Path(p).name for p in told["png"]} == {
        "contact_sheet.png", "joint_curves.png", "status.png", "by_joint.png", "reprojection.png",
    }  # fmt: skip
    assert all(Path(p).is_file() for p in told["png"])
    assert '"cam04"' in Path(told["html"]["path"]).read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rig"], "expected 3D joints"),
        (["pose", "--against", "rig"], "expected 3D joints"),
        (["pose", "--rig", "truth"], "expected cameras"),
        (["pose", "--video", "new.mp4"], "give --clip"),
        (["pose", "--keypoints", "keypoints"], "give --rig"),
        (["absent"], "no such file"),
    ],
)
def test_wrong_input_is_one_line_and_status_1(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    before = sorted(tmp_path.iterdir())
    known = {**files, "absent": tmp_path / "absent.npz", "new.mp4": tmp_path / "new.mp4"}
    assert main(["view", *[str(known.get(a, a)) for a in arguments]]) == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_takes_are_chosen_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pose, truth = pair(3)
    monkeypatch.setattr("egopose.commands.view.load", lambda path: {"a": pose, "b": truth})
    assert load_pose(tmp_path, "b") is truth
    with pytest.raises(EgoposeError, match="several takes; choose one with --take: a, b"):
        load_pose(tmp_path)
    with pytest.raises(EgoposeError, match="no take 'c'"):
        load_pose(tmp_path, "c")
    monkeypatch.setattr("egopose.commands.view.load", lambda path: {"a": pose})
    assert load_pose(tmp_path) is pose


def test_a_video_without_its_camera_is_refused_before_the_page_is_written(
    files: dict[str, Path], tmp_path: Path
) -> None:
    from egopose.io.video import VideoWriter

    clip = tmp_path / "clip.mp4"
    with VideoWriter(clip, 30) as video:
        video.add(np.zeros((72, 128, 3), dtype=np.uint8))
    with pytest.raises(EgoposeError, match="choose one with --camera"):
        run_view(files["pose"], html=tmp_path / "a.html", video=tmp_path / "b.mp4", clip=clip, rig=files["rig"])
    assert not (tmp_path / "a.html").exists()


def test_the_live_scene_serves_this_machine_only() -> None:
    pytest.importorskip("viser")
    from egopose.view.live import LiveScene

    pose, truth = pair(10)
    capture = exo_capture(seconds=0.2)
    scene = LiveScene(capture.rig, port=8765)
    try:
        assert scene.server.get_host() == "127.0.0.1"
        for frame in (0, 4, 9):
            scene.show(pose, frame)
            scene.show(truth, frame, name="reference", reference=True)
        unknown = pose.replace(xyz=np.full_like(pose.xyz, np.nan), status=None)
        scene.show(unknown, 0)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(scene.address, timeout=120) as answer:
            assert answer.status == 200
    finally:
        scene.close()


def test_a_stream_is_shown_live_at_its_own_pace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("viser")
    from egopose.demo import walking_wearer
    from egopose.trajectory import Trajectory

    times = np.arange(30) / 30
    save(Trajectory(times, walking_wearer(times)[1]), tmp_path / "head.npz")
    out = tmp_path / "live.npz"
    words = ["predict", "--trajectory", str(tmp_path / "head.npz"), "--live", "--port", "8799", "--json"]
    start = time.monotonic()
    assert main([*words, "--mode", "2", "--out", str(out)]) == 0
    assert time.monotonic() - start > 29 / 30
    said = capsys.readouterr()
    assert json.loads(said.out) == {"out": str(out), "frames": 30}
    assert "live scene at http://127.0.0.1:" in said.err
    # what was shown is what the stream gives
    from egopose.predict import Predictor

    steps = list(Predictor.from_pretrained("nano").stream(trajectory=load(tmp_path / "head.npz"), lookahead=2))
    shown = load(out)
    assert shown.frames.tolist() == [int(step.frames[0]) for step in steps]
    np.testing.assert_array_equal(shown.xyz, np.concatenate([step.xyz for step in steps]))
    assert main([*words, "--smooth"]) == 1
    assert "need the whole clip" in capsys.readouterr().err


def test_evaluate_writes_a_page_that_links_to_the_scene(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "score.html"
    assert main(["evaluate", "pose", str(files["pose"]), str(files["truth"]), "--out", str(out)]) == 0
    numbers = json.loads((tmp_path / "score.json").read_text())
    assert f"{numbers['metrics']['mpjpe_mm']:.2f} mm" in out.read_text()
    assert 'href="score_3d.html#frame=' in out.read_text()
    assert (tmp_path / "score_3d.html").is_file()
