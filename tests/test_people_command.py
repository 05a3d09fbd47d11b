"""Several people from files to files: formats that carry them, the command, the wearer, videos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import egopose
from egopose.candidates import Candidates2D
from egopose.cli import main
from egopose.commands.people import choose_persons, load_seen, named
from egopose.errors import EgoposeError
from tests.people_scenes import Crowd, crowd


@pytest.fixture(scope="module")
def scene() -> Crowd:
    return crowd(2, n_frames=40, seed=7, outlier_share=0.0, swap_share=0.0, noise_px=1.0)


def people_in(scene: Crowd, v: int, t: int) -> list[np.ndarray]:
    rows = []
    for layer in scene.candidates.layers:
        uv, score = layer.uv_px[v, t], layer.score[v, t]
        if np.isfinite(uv[:, 0]).any():
            rows.append(np.nan_to_num(np.concatenate([uv, score[:, None]], axis=1), nan=0.0))
    return rows


@pytest.fixture(scope="module")
def files(scene: Crowd, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    results = []
    for v, view in enumerate(scene.candidates.views):
        (folder / "openpose" / f"{view}_json").mkdir(parents=True)
        for t in range(scene.candidates.frames.size):
            rows = people_in(scene, v, t)
            people = [{"pose_keypoints_2d": row.ravel().tolist()} for row in rows]
            path = folder / "openpose" / f"{view}_json" / f"{view}_{t:06d}.json"
            path.write_text(json.dumps({"version": 1.3, "people": people}))
            results += [
                {"image_id": f"{view}/{t:06d}.jpg", "category_id": 1, "keypoints": row.ravel().tolist(), "score": 0.9}
                for row in rows
            ]
    (folder / "coco.json").write_text(json.dumps(results))
    egopose.save(scene.rig, folder / "rig.json")
    egopose.save(scene.heads[1], folder / "head.npz")
    return folder


def run(*arguments: object) -> int:
    try:
        return int(main([str(a) for a in arguments]) or 0)
    except SystemExit as stop:
        return int(stop.code or 0)


def error_to(scene: Crowd, path: Path) -> np.ndarray:
    pose = egopose.load(path)
    return np.array([np.nanmedian(np.linalg.norm(pose.xyz - truth, axis=-1)) for truth in scene.truth])


@pytest.mark.parametrize("name", ["openpose", "coco.json"])
def test_formats_give_everybody(scene: Crowd, files: Path, name: str) -> None:
    found = load_seen(files / name)
    assert isinstance(found, Candidates2D)
    assert found.views == scene.candidates.views
    np.testing.assert_array_equal(found.counts, scene.candidates.counts)
    for v, t in ((0, 3), (2, 17)):
        mine = sorted(layer.uv_px[v, t][layer.seen[v, t]].sum() for layer in found.layers)
        theirs = sorted(layer.uv_px[v, t][layer.seen[v, t]].sum() for layer in scene.candidates.layers)
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    # without asking, one person per image as before
    with pytest.warns(egopose.errors.EgoposeWarning, match="several people"):
        one = egopose.load(files / name)
    assert isinstance(one, egopose.Observations2D)
    with pytest.raises(EgoposeError, match="person is 'nobody'"):
        egopose.load(files / name, person="nobody")


def test_a_file_for_each_person(scene: Crowd, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "take.npz"
    arguments = ["triangulate", files / "rig.json", files / "openpose", "--out", out, "--fps", 30]
    assert run(*arguments, "--people", 2, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert len(report["people"]) == 2
    errors = np.stack([error_to(scene, tmp_path / f"take_person_{n}.npz") for n in (1, 2)])
    assert sorted(errors.argmin(1)) == [0, 1]
    assert errors.min(1).max() < 0.02
    assert not out.exists()
    # one file under the name given when one person is wanted
    assert run(*arguments) == 0
    assert "the most complete person was taken" in capsys.readouterr().out
    assert error_to(scene, out).min() < 0.02


def test_the_wearer_alone(scene: Crowd, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "wearer.npz"
    arguments = ["triangulate", files / "rig.json", files / "coco.json", "--out", out, "--fps", 30]
    assert run(*arguments, "--wearer", files / "head.npz") == 0
    assert "wears the camera" in capsys.readouterr().out
    errors = error_to(scene, out)
    assert errors.argmin() == 1
    assert errors[1] < 0.02
    assert run(*arguments, "--wearer", files / "rig.json") == 1
    assert "expected poses of the head-worn camera" in capsys.readouterr().err
    assert run(*arguments, "--wearer", files / "head.npz", "--wearer-start", "500") == 1
    assert "clock" in capsys.readouterr().err
    assert run(*arguments, "--people", "0") == 1
    assert "expected at least one" in capsys.readouterr().err


def test_nobody_and_too_few(scene: Crowd) -> None:
    persons = choose_persons(scene.rig, scene.candidates, people=5)
    assert len(persons.observations) == 2
    assert any("5 people were asked for, 2 are seen" in note for note in persons.notes)
    one = scene.candidates.layers[0]
    assert choose_persons(scene.rig, one).observations == (one,)
    empty = one.replace(uv_px=np.full_like(one.uv_px, np.nan))
    with pytest.raises(EgoposeError, match="no person is seen by two views"):
        choose_persons(scene.rig, Candidates2D((empty, empty)))
    assert named(Path("a/b.trc"), 2, True) == Path("a/b_person_2.trc")
    assert named(Path("a/b.trc"), 2, False) == Path("a/b.trc")


def test_views_without_a_camera_are_named(scene: Crowd) -> None:
    persons = choose_persons(scene.rig.subset(["cam01", "cam02", "cam03"]), scene.candidates, people=2)
    assert any("cam04" in note for note in persons.notes)
    assert persons.observations[0].views == ("cam01", "cam02", "cam03")


@pytest.mark.shared
def test_the_person_of_real_recordings_is_the_one_that_the_peer_chose(shared_data: Path) -> None:
    from egopose.io import align_views
    from egopose.triangulate.people import tell_apart

    folder = shared_data / "pose2sim_single"
    rig = egopose.load(folder / "calibration" / "Calib_qualisys.toml")
    seen = align_views(rig, egopose.load(folder / "pose", person="all", fps=60.0), drop=True)
    peer = align_views(rig, egopose.load(folder / "pose-associated", fps=60.0), drop=True)
    # two cameras see a second person in every frame
    assert (seen.counts > 1).mean() > 0.4
    found = tell_apart(rig, seen)
    mine = found.observations[0]
    both = mine.seen.any(-1) & peer.seen.any(-1)
    same = np.isclose(mine.uv_px, peer.uv_px, atol=0.01, equal_nan=True).all(-1).mean(-1) > 0.9
    assert both.sum() >= 395
    assert same[both].mean() > 0.99
    assert found.table()[0]["mean_views"] > 3.9
