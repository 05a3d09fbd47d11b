"""Aria recordings: read through the extra against what the file's own library says, and refused without it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from egopose.ego_exo4d import aria
from egopose.ego_exo4d.vrs import read_vrs
from egopose.errors import EgoposeError, MissingExtra


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("projectaria_tools", "projectaria_tools.core", "projectaria_tools.core.data_provider"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"egopose\[aria\]"):
        read_vrs(tmp_path / "a.vrs")


@pytest.fixture(scope="module")
def recording(shared_data: Path):
    pytest.importorskip("projectaria_tools.core.data_provider", reason="needs the extra [aria]", exc_type=ImportError)
    return read_vrs(shared_data / "adt_skeleton" / "video.vrs")


@pytest.mark.shared
def test_camera_projects_as_the_library_does(recording) -> None:
    from projectaria_tools.core import data_provider

    theirs = (
        data_provider.create_vrs_data_provider(str(recording.path))
        .get_device_calibration()
        .get_camera_calib("camera-rgb")
    )
    camera = recording.camera
    assert camera.size == (1408, 1408)
    rng = np.random.default_rng(0)
    for ray in rng.normal(0, 0.5, (200, 3)) * [1, 1, 0] + [0, 0, 1]:
        uv = theirs.project(ray)
        if uv is not None:
            np.testing.assert_allclose(camera.project(ray, frame="camera"), uv, atol=1e-8)
            back = camera.unproject(uv)
            other = theirs.unproject(uv)
            np.testing.assert_allclose(back / back[2], other / other[2], atol=1e-8)
    # the undistorted image of the same frame shows the same scene point
    table = aria.ego_undistorter(camera)
    assert table.apply(next(recording.images())).shape == (512, 512, 3)
    assert 0.6 < table.mask.mean() < 0.7


@pytest.mark.shared
def test_images_times_and_samples(recording, shared_data: Path) -> None:
    assert len(recording) == 3
    images = list(recording.images())
    assert [image.shape for image in images] == [(1408, 1408, 3)] * 3
    np.testing.assert_array_equal(np.rot90(images[0]), recording.image(0))
    assert (np.diff(recording.times_s) > 0.02).all()
    imu = recording.imu()
    assert imu.times_s.size > 50
    # at rest or nearly so: gravity, and in the upright camera it points mostly along -y
    mean = imu.acceleration.mean(0)
    assert 9.3 < np.linalg.norm(mean) < 10.3
    assert -mean[1] > 0.7 * np.linalg.norm(mean)
    clip = recording.clip(trajectory=shared_data / "adt_skeleton" / "aria_trajectory.csv", imu=True)
    # the trajectory is on the same clock
    poses = clip.trajectory.at(clip.times_s, extrapolate=True)
    assert np.isfinite(poses).all()
    # y is up in that world: the upright camera's own y axis points down
    assert (poses[:, 1, 1] < -0.5).all()


@pytest.mark.shared
def test_refused(recording, tmp_path: Path) -> None:
    with pytest.raises(EgoposeError, match="no such file"):
        read_vrs(tmp_path / "none.vrs")
    with pytest.raises(EgoposeError, match="no stream"):
        read_vrs(recording.path, "camera-nose")
    (tmp_path / "bad.vrs").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(EgoposeError, match="VRS"):
        read_vrs(tmp_path / "bad.vrs")
    with pytest.raises(EgoposeError, match="was asked for"):
        recording.image(3)
