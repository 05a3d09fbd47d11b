"""Two runs on one page: errors against a reference or each other, side by side or in one place; rerun recordings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from egopose.cli import main
from egopose.commands.view import run_view
from egopose.errors import EgoposeError, MissingExtra
from egopose.io import save
from egopose.pose import PoseSequence
from egopose.skeleton import BODY17, BODY17_HANDS
from egopose.view.rerun_export import save_rerun
from egopose.view.scene import build_scene, save_scene_page
from tests.browser import Page, open_browser
from tests.view_samples import head_path, pair

READY = "document.body?.dataset.ready === 'yes'"


def runs(n: int = 60) -> tuple[PoseSequence, PoseSequence, PoseSequence]:
    """A run, a worse one that lies 2 cm aside and knows fewer frames, and the truth."""
    pose, truth = pair(n)
    rival, _ = pair(n, seed=3)
    rival = rival.replace(xyz=rival.xyz + np.float32(0.02)).select(frames=rival.frames[5:])
    return pose, rival, truth


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with open_browser() as tab:
        yield tab


def mean_mm(a: PoseSequence, b: PoseSequence) -> float:
    frames = np.intersect1d(a.frames, b.frames)
    distance = np.linalg.norm(a.select(frames=frames).xyz.astype(float) - b.select(frames=frames).xyz, axis=-1)
    return 1e3 * float(np.nanmean(distance))


def test_each_run_is_measured_by_the_reference_or_by_the_other() -> None:
    pose, rival, truth = runs()
    names = ("first", "truth", "second")
    scene = build_scene(pose, against=truth, rival=rival, names=names)
    assert [(b["name"], b["reference"], b["rival"], b["target"]) for b in scene["bodies"]] == [
        ("first", False, False, 1), ("truth", True, False, None), ("second", False, True, 1),
    ]  # fmt: skip
    assert f"first: mean error {mean_mm(pose, truth):.1f} mm" in " ".join(scene["notes"])
    assert f"second: mean error {mean_mm(rival, truth):.1f} mm" in " ".join(scene["notes"])
    scene = build_scene(pose, rival=rival, names=names)
    assert [(b["name"], b["reference"], b["rival"], b["target"]) for b in scene["bodies"]] == [
        ("first", False, False, 1), ("second", False, True, 0),
    ]  # fmt: skip
    assert f"first: mean error {mean_mm(pose, rival):.1f} mm" in " ".join(scene["notes"])
    body = rival.select(joints=BODY17.joints).replace(skeleton=BODY17)
    partner = build_scene(pose, rival=body)["bodies"][0]["partner"]
    assert partner[BODY17_HANDS.index("left_knee")] == BODY17.index("left_knee")
    with pytest.raises(EgoposeError, match="share no frame"):
        build_scene(pose, rival=rival.replace(frames=rival.frames + 10_000))


def test_three_sequences_of_a_minute_stay_under_the_limit(tmp_path: Path) -> None:
    pose, rival, truth = runs(1800)
    truth = truth.replace(covariance=pose.covariance, sigma=pose.sigma)
    told = save_scene_page(tmp_path / "a.html", pose, against=truth, rival=rival, trajectory=head_path(pose))
    assert told["bytes"] < 10e6 - 2.4e6  # room for the embedded recording
    assert told["frames"] >= 900


@pytest.mark.parametrize("phone", [False, True])
def test_the_runs_stand_side_by_side_or_in_one_place(page: Page, tmp_path: Path, phone: bool) -> None:
    pose, rival, truth = runs()
    path = tmp_path / "c.html"
    save_scene_page(path, pose, against=truth, rival=rival, names=("first", "truth", "second"))
    width, height = (390, 844) if phone else (1280, 800)
    page.screen(width, height, phone=phone)
    try:
        page.open(path, fragment="#frame=120")
        page.wait_for(READY)

        def placed(body: int, joint: str) -> np.ndarray:
            found = {(d["body"], d["joint"]): (d["x"], d["y"]) for d in page.run("egoposeViewer.drawn()")}
            return np.array(found[body, BODY17_HANDS.index(joint)])

        for joint in ("right_hip", "left_hip"):
            first, second = placed(0, joint), placed(2, joint)
            assert second[0] - first[0] > 0.2 * width * (1 if phone else 0.5)
            assert 0 < first[0] < second[0] < width
            assert np.linalg.norm(placed(1, joint) - first) < 40  # the reference lies with the run
        pixels = page.screenshot()
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 200
        page.run("document.querySelector('[data-key=apart]').click()")
        page.run("egoposeViewer.redraw()")
        assert np.linalg.norm(placed(2, "right_hip") - placed(0, "right_hip")) < 60
        page.run("document.querySelector('[data-key=rival]').click()")
        page.run("egoposeViewer.redraw()")
        assert {d["body"] for d in page.run("egoposeViewer.drawn()")} == {0, 1}
        # the table tells both errors, those of the arrays
        page.run("document.getElementById('joints-box').open = true")
        page.wait_for("document.querySelector('#joints tbody tr').cells[4].textContent.length > 0")
        row = page.run(f"[...document.querySelectorAll('#joints tbody tr')[{BODY17_HANDS.index('right_hip')}].cells]"
                       ".map((c) => c.textContent)")  # fmt: skip
        for cell, run in ((row[3], pose), (row[4], rival)):
            a, b = (s.select(frames=[120], joints=["right_hip"]).xyz[0, 0].astype(float) for s in (run, truth))
            # the page keeps positions in steps of a tenth of a millimetre
            assert cell.endswith(" mm")
            assert abs(float(cell.removesuffix(" mm")) - 1e3 * np.linalg.norm(a - b)) < 0.2
        assert page.errors == []
        assert page.requests == []
    finally:
        page.screen(1280, 800)


def test_the_command_compares_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pose, rival, truth = runs()
    for name, sequence in (("a/joints.npz", pose), ("b/joints.npz", rival), ("truth.npz", truth)):
        save(sequence, tmp_path / name)
    words = ["view", str(tmp_path / "a/joints.npz"), str(tmp_path / "b/joints.npz")]
    assert main([*words, "--against", str(tmp_path / "truth.npz"), "--html", str(tmp_path / "c.html"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["html"]["frames"] == 60
    text = (tmp_path / "c.html").read_text()
    assert '"a/joints.npz"' in text
    assert '"b/joints.npz"' in text
    assert main([*words, "--rerun", str(tmp_path / "c.rrd")]) == 1
    assert "holds one run and a reference" in capsys.readouterr().err


def test_without_rerun_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "rerun", None)
    save(runs()[0], tmp_path / "a.npz")
    with pytest.raises(MissingExtra, match=r"egopose\[rerun\]"):
        run_view(tmp_path / "a.npz", rerun=tmp_path / "a.rrd")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_rerun_recording_holds_every_frame(tmp_path: Path) -> None:
    reader = pytest.importorskip("rerun.chunk", reason="needs the extra [rerun]")
    pose, _, truth = runs()
    told = save_rerun(tmp_path / "a.rrd", pose, against=truth, trajectory=head_path(pose))
    assert told == {"frames": 60, "bytes": (tmp_path / "a.rrd").stat().st_size}
    frames: dict[int, np.ndarray] = {}
    for chunk in reader.RrdReader(str(tmp_path / "a.rrd")).stream():
        if chunk.entity_path == "/prediction/joints":
            table = chunk.to_record_batch().to_pydict()
            frames |= {f: np.array(p) for f, p in zip(table["frame"], table["Points3D:positions"])}
    assert sorted(frames) == pose.frames.tolist()
    for t in (0, 10, 59):
        np.testing.assert_allclose(frames[int(pose.frames[t])], pose.xyz[t, pose.valid[t]], atol=1e-6)
