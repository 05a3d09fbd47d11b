"""Rigs: names, order, packing and the check of units."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from egopose import rigid
from egopose.camera import Camera, Rig
from egopose.errors import EgoposeError


def camera(name, place=(0.0, 0.0, 0.0), **keywords):
    return Camera.pinhole(500, None, (640, 480), rigid.make_transform(np.eye(3), place), name=name, **keywords)


def ring(scale=1.0):
    places = [(2, 0, -4), (-2, 0, -4), (0, 2, -4), (0.5, -1, -5)]
    return Rig([camera(f"cam{i}", scale * np.array(p)) for i, p in enumerate(places)], [0, 0.1, 0, -0.2])


def test_names_order_and_lookup():
    rig = ring()
    assert rig.names == ["cam0", "cam1", "cam2", "cam3"]
    assert rig["cam2"] is rig.cameras[2]
    assert len(rig) == 4
    assert "cam1" in rig
    assert "cam9" not in rig
    assert [c.name for c in rig] == rig.names
    part = rig.subset(["cam3", "cam1"])
    assert part.names == ["cam3", "cam1"]
    assert part.time_offsets_s.tolist() == [-0.2, 0.1]
    with pytest.raises(EgoposeError, match=r"'cam9'.*cam0, cam1, cam2, cam3"):
        rig["cam9"]
    with pytest.raises(EgoposeError, match="'cam9'"):
        rig.subset(["cam9"])
    assert repr(rig) == "Rig(4 cameras: cam0, cam1, cam2, cam3; raw)"


def test_nameless_cameras_are_numbered():
    assert Rig([camera(None), camera("left"), camera(None)]).names == ["cam01", "left", "cam03"]


def test_refusals():
    with pytest.raises(EgoposeError, match="without cameras"):
        Rig([])
    with pytest.raises(EgoposeError, match="two cameras are named 'a'"):
        Rig([camera("a"), camera("a")])
    with pytest.raises(EgoposeError, match="'a' is given raw and undistorted"):
        Rig([camera("a"), camera("a", image_space="undistorted")])
    with pytest.raises(EgoposeError, match="entry 1 is str"):
        Rig([camera("a"), "b"])
    with pytest.raises(EgoposeError, match="found int"):
        Rig(3)
    for offsets in ([0.0], [0.0, np.nan], np.zeros((2, 1))):
        with pytest.raises(EgoposeError, match="time_offsets_s"):
            Rig([camera("a"), camera("b")], offsets)


def test_image_space_of_the_whole():
    assert ring().image_space == "raw"
    assert Rig([camera("a", image_space="undistorted")]).image_space == "undistorted"
    assert Rig([camera("a", image_space="undistorted"), camera("b")]).image_space == "mixed"


def test_packed_feeds_the_kernels():
    from egopose.kernels.projection import project_points

    rig = ring()
    models, params, T = rig.packed()
    assert (models.dtype, params.shape, T.shape) == (np.int64, (4, 20), (4, 3, 4))
    points = np.random.default_rng(0).normal(0, 1, (50, 3))
    uv, ok = np.empty((4, 50, 2)), np.empty((4, 50), dtype=bool)
    project_points(models, params, T, points, uv, ok)
    assert ok.all()
    np.testing.assert_allclose(uv, rig.project(points), rtol=1e-12)
    assert rig.project(points.reshape(5, 10, 3)).shape == (4, 5, 10, 2)


def test_units_of_a_room_are_fine():
    assert ring().check_units() is None
    assert Rig([camera("only")]).check_units() is None


@pytest.mark.parametrize(("scale", "unit"), [(1000.0, "millimetres"), (100.0, "centimetres or millimetres")])
def test_a_rig_in_other_units_is_noticed(scale, unit):
    note = ring(scale).check_units()
    assert note is not None
    assert f"looks like {unit}:" in note
    # the median distance, and the two that are farthest apart
    assert f"{np.median(ring(scale).baselines()):.4g}" in note
    assert "cam0 and cam1" in note


def test_files_and_pickles_give_the_equal_rig():
    rig = ring()
    again = Rig.from_dict(json.loads(json.dumps(rig.to_dict())))
    assert again == rig
    assert hash(again) == hash(rig)
    assert pickle.loads(pickle.dumps(rig)) == rig
    assert rig != ring(2.0)
    assert rig != 3
    with pytest.raises(EgoposeError, match=r"a\.json: not a rig"):
        Rig.from_dict({"cameras": "none"}, "a.json")
    with pytest.raises(EgoposeError, match=r"a\.json: camera 0: not a camera"):
        Rig.from_dict({"cameras": [{}]}, "a.json")
