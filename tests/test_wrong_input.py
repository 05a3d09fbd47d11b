"""What a user gets wrong: one clear error, or a note, and nothing that looks like a result."""

from pathlib import Path

import numpy as np
import pytest

import egopose
from egopose import Clip, EgoposeError, Predictor, Trajectory
from egopose.cli import main
from egopose.demo import exo_capture
from egopose.errors import EgoposeWarning
from egopose.io.tables import skeleton_for
from egopose.skeleton import BODY17_HANDS
from egopose.triangulate import triangulate, triangulate_points
from egopose.triangulate.take import prepare_take


@pytest.fixture(scope="module")
def capture():
    return exo_capture(seconds=0.2)


def refused(capsys, *words: str) -> str:
    """The one line that a refused command says."""
    assert main(list(words)) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_triangulate_names_the_wrong_type(capture):
    rig, seen = capture.rig, capture.observations
    for arguments, word in (
        (("rig.toml", seen), "rig is a str"),
        ((rig.cameras, seen), "rig is a list"),
        ((seen, rig), "rig is a Observations2D"),
        ((rig, None), "observations is a NoneType"),
        ((rig, seen, {"threshold_px": 3}), "config is a dict"),
    ):
        with pytest.raises(EgoposeError, match=word):
            triangulate(*arguments)


def test_triangulate_one_camera(capture):
    with pytest.raises(EgoposeError, match=r"the rig has 1 camera\(s\) \(cam01\); triangulation needs at least two"):
        triangulate(capture.rig.subset(["cam01"]), capture.observations)


@pytest.mark.parametrize("threshold", [None, [3.0], float("inf"), 0])
def test_threshold_of_another_type(capture, threshold):
    uv = capture.observations.uv_px[:, 0]
    with pytest.raises(EgoposeError, match="expected a positive number of pixels or 'auto'"):
        triangulate_points(capture.rig.cameras, uv, threshold=threshold)


def test_masked_pixels_are_unseen(capture):
    uv = np.array(capture.observations.uv_px[:, 0])
    mask = np.zeros(uv.shape, bool)
    mask[1] = True
    found = triangulate_points(capture.rig.cameras, np.ma.masked_array(uv, mask=mask), threshold=5)
    assert not found.used[1].any()
    assert found.used[0].any()


@pytest.mark.parametrize("path", [None, 3, b"x", ["a"]])
def test_load_of_another_type(path):
    with pytest.raises(EgoposeError, match="expected the name of a file or folder"):
        egopose.load(path)


def test_millimetres_are_one_line(capture, tmp_path: Path, capsys):
    text = []
    egopose.save(capture.rig, tmp_path / "rig.toml")
    for line in (tmp_path / "rig.toml").read_text().splitlines():
        key, _, value = line.partition(" = ")
        if key == "translation":
            line = f"{key} = {[1000 * float(x) for x in value.strip('[]').split(',')]}"
        text.append(line)
    (tmp_path / "mm.toml").write_text("\n".join(text))
    egopose.save(capture.observations, tmp_path / "seen.csv")
    out = tmp_path / "x.npz"
    line = refused(
        capsys, "triangulate", str(tmp_path / "mm.toml"), str(tmp_path / "seen.csv"), "--out", str(out)
    )  # fmt: skip
    assert "mm.toml" in line
    assert "millimetres" in line
    assert "--option unit=mm" in line
    assert not out.exists()


def test_pixels_outside_the_image_are_noted(capture):
    uv = np.array(capture.observations.uv_px)
    uv[0] *= 3
    seen = capture.observations.replace(uv_px=uv, sizes=(None,) * 4, fps=30.0)
    with pytest.warns(EgoposeWarning, match="camera 'cam01' is calibrated for .* lie outside") as caught:
        take = prepare_take(capture.rig, seen)
    assert len(caught) == 1
    assert len(take.notes) == 1


def test_a_misspelt_joint_is_noted():
    joints = [name if name != "left_elbow" else "left_elbwo" for name in BODY17_HANDS.joints]
    with pytest.warns(EgoposeWarning, match="joint names left_elbwo are not of body17_hands, the other 58 are"):
        found = skeleton_for(joints)
    assert found.joints == tuple(joints)


def test_prediction_from_nothing_is_said():
    predictor = Predictor.from_pretrained("nano")
    if "images" in predictor.trained:
        pytest.skip("these weights read images")
    pictures = [np.zeros((32, 32, 3), np.uint8)] * 3
    with pytest.warns(EgoposeWarning, match="average pose"):
        predictor.predict(Clip(frames=pictures, times_s=np.arange(3) / 15))
    with pytest.warns(EgoposeWarning, match="average pose"):
        list(predictor.stream(pictures, fps=15))
    with pytest.raises(EgoposeError, match=r"got a Trajectory; expected egopose\.Clip"):
        predictor.predict(Trajectory([0.0, 0.1], np.stack([np.eye(4)] * 2)))


def test_a_rig_is_no_trajectory(capture, tmp_path: Path, capsys):
    egopose.save(capture.rig, tmp_path / "rig.toml")
    line = refused(
        capsys, "predict", "--trajectory", str(tmp_path / "rig.toml"), "--out", str(tmp_path / "x.npz")
    )  # fmt: skip
    assert "rig.toml: holds a Rig; expected head poses over time" in line


def test_view_port_and_take_name(capture, tmp_path: Path, capsys):
    egopose.save(capture.truth, tmp_path / "truth.npz")
    pytest.importorskip("viser")
    assert "port 99999" in refused(capsys, "view", str(tmp_path / "truth.npz"), "--live", "--port", "99999")


def test_view_take_by_name(capture, tmp_path: Path):
    from egopose.commands.view import load_pose

    body = capture.truth.to_skeleton(egopose.skeleton.BODY17)
    takes = {
        uid: body.replace(provenance={"take_uid": uid, "take_name": name})
        for uid, name in (("u1", "cooking_1"), ("u2", "dance_2"))
    }
    egopose.save(takes, tmp_path / "takes.json", format="ego-exo4d-body")
    assert load_pose(tmp_path / "takes.json", "dance_2").provenance["take_uid"] == "u2"
    with pytest.raises(EgoposeError, match="no take 'swim_3'; choose one with --take: u1, u2"):
        load_pose(tmp_path / "takes.json", "swim_3")


def test_weights_lists_what_the_package_ships(capsys):
    import json

    assert main(["weights", "--json"]) == 0
    assert "nano" in json.loads(capsys.readouterr().out)["shipped"]
