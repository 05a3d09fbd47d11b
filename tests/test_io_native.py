"""The package's own files: lossless, reproducible, bounded, and never believed when damaged."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import egopose
from egopose.errors import EgoposeError
from egopose.io.native import META, read_container, write_container
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import SKELETONS, Skeleton, point_skeleton
from tests.io_cases import body_pose, observations, ring

SETTINGS = settings(max_examples=25, deadline=None)


@st.composite
def poses(draw: st.DrawFn) -> PoseSequence:
    """Any pose sequence: any skeleton, missing joints, error bars or none, any status."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    T = draw(st.integers(1, 6))
    skeleton = draw(st.sampled_from([*SKELETONS.values(), point_skeleton(["a", "b c", "ü"]), Skeleton("one", ("x",))]))
    J = skeleton.n_joints
    xyz = (rng.normal(size=(T, J, 3)) * 10.0 ** draw(st.integers(-3, 3))).astype(np.float32)
    xyz[rng.random((T, J)) < 0.2] = np.nan
    status = np.where(np.isfinite(xyz[..., 0]), rng.choice([0, 1, 2, 5, 6], (T, J)), rng.choice([3, 4], (T, J)))
    sigma = np.abs(rng.normal(size=(T, J))).astype(np.float32) if draw(st.booleans()) else None
    covariance = rng.normal(size=(T, J, 3, 3)).astype(np.float32) if draw(st.booleans()) else None
    if covariance is not None:
        covariance = covariance @ np.swapaxes(covariance, -1, -2)
    return PoseSequence(
        skeleton,
        np.cumsum(rng.integers(1, 5, T)) + draw(st.integers(-5, 10**9)),
        np.cumsum(rng.random(T) + 0.01),
        xyz,
        sigma=sigma,
        covariance=covariance,
        status=status.astype(np.uint8),
        space=draw(st.sampled_from(["world", "head", "camera:cam 1"])),
        provenance={"inputs": ["a", 1, None, 2.5], "nested": {"x": True}},
    )


def same(a: Any, b: Any) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b, equal_nan=True))


@SETTINGS
@given(pose=poses(), compress=st.booleans())
def test_pose_comes_back_bit_for_bit(
    pose: PoseSequence, compress: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("native") / "x.npz"
    egopose.save(pose, path, compress=compress)
    back = egopose.load(path)
    assert back.skeleton == pose.skeleton
    assert back.space == pose.space
    assert dict(back.provenance) == dict(pose.provenance)
    for name in ("frames", "times_s", "xyz", "sigma", "covariance", "status"):
        assert same(getattr(back, name), getattr(pose, name)), name
    first = path.read_bytes()
    egopose.save(back, path, compress=compress)
    assert path.read_bytes() == first


def test_numpy_opens_it_too(tmp_path: Path) -> None:
    egopose.save(body_pose(), tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["xyz"], body_pose().xyz)


@pytest.mark.parametrize("undistorted", [False, True])
def test_observations_come_back(undistorted: bool, tmp_path: Path) -> None:
    seen = observations().replace(undistorted=undistorted, fps=29.97, sizes=((1280, 720), None, (1280, 720)))
    egopose.save(seen, tmp_path / "x.npz")
    back = egopose.load(tmp_path / "x.npz")
    assert (back.views, back.fps, back.undistorted, back.sizes) == (seen.views, seen.fps, undistorted, seen.sizes)
    assert same(back.uv_px, seen.uv_px)
    assert same(back.score, seen.score)


def test_trajectory_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    poses_ = egopose.rigid.make_transform(
        egopose.rigid.rotation_from_vector(rng.normal(size=(9, 3))), rng.normal(size=(9, 3))
    )
    path = egopose.Trajectory(np.arange(9) / 30, poses_, max_gap_s=0.5)
    egopose.save(path, tmp_path / "x.npz")
    back = egopose.load(tmp_path / "x.npz")
    assert same(back.times_s, path.times_s)
    np.testing.assert_allclose(back.T_world_camera, path.T_world_camera, atol=1e-15)
    assert back.max_gap_s == 0.5


@SETTINGS
@given(data=st.data())
def test_rig_json_comes_back_equal(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("rig") / "rig.json"
    cameras = list(ring(data.draw(st.integers(1, 4)), data.draw(st.booleans())).cameras)
    if data.draw(st.booleans()):
        params = np.r_[600.0, 320, 240, np.linspace(-0.02, 0.02, 12)]
        cameras.append(
            egopose.Camera.fisheye624(params, (640, 480), cameras[0].T_world_camera, name="aria", max_angle=1.2)
        )
    rig = egopose.Rig(cameras, np.linspace(-0.1, 0.1, len(cameras)))
    egopose.save(rig, path)
    assert egopose.load(path) == rig


def test_a_later_schema_says_update(tmp_path: Path) -> None:
    meta, arrays = _container(tmp_path)
    write_container(tmp_path / "y.npz", {**meta, "schema": 99}, arrays, compress=True)
    with pytest.raises(EgoposeError, match="schema version 99, this egopose reads up to 1; update egopose"):
        egopose.load(tmp_path / "y.npz")
    egopose.save(ring(), tmp_path / "rig.json")
    text = (tmp_path / "rig.json").read_text().replace('"schema": 1', '"schema": 2')
    (tmp_path / "rig.json").write_text(text)
    with pytest.raises(EgoposeError, match="schema version 2"):
        egopose.load(tmp_path / "rig.json")


def _container(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    egopose.save(body_pose(), folder / "x.npz")
    return read_container(folder / "x.npz")


def _rezip(source: Path, target: Path, change: dict[str, bytes | None]) -> None:
    """Copy a file with some members replaced (None: left out)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = change.get(name, old.read(name))
            if data is not None:
                new.writestr(name, data)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def test_an_edited_value_is_noticed(tmp_path: Path) -> None:
    meta, arrays = _container(tmp_path)
    xyz = arrays["xyz"].copy()
    xyz[0, 0, 0] += 1
    _rezip(tmp_path / "x.npz", tmp_path / "y.npz", {"xyz.npy": _npy(xyz)})
    with pytest.raises(EgoposeError, match="does not match its SHA-256"):
        egopose.load(tmp_path / "y.npz")
    edited = json.dumps({**meta, "space": "head"}).encode()
    _rezip(tmp_path / "x.npz", tmp_path / "y.npz", {META: edited})
    with pytest.raises(EgoposeError, match="does not match its SHA-256"):
        egopose.load(tmp_path / "y.npz")


def test_pickles_are_refused_unopened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "was_executed"),))

    _container(tmp_path)
    bad = np.empty(1, dtype=object)
    bad[0] = Bomb()
    _rezip(tmp_path / "x.npz", tmp_path / "y.npz", {"xyz.npy": _npy(bad)})
    with pytest.raises(EgoposeError, match=r"xyz.npy: holds values of type object"):
        egopose.load(tmp_path / "y.npz")
    assert not (tmp_path / "was_executed").exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert (tmp_path / "was_executed").exists()


def test_a_zip_bomb_and_a_lying_header_allocate_nothing(tmp_path: Path) -> None:
    _container(tmp_path)
    honest = _npy(np.zeros((1, 17, 3), np.float32))
    # the padding of the header pays for the longer shape
    lying = honest.replace(b"(1, 17, 3), }      ", b"(9999999, 17, 3), }")
    assert len(lying) == len(honest)
    assert lying != honest
    _rezip(tmp_path / "x.npz", tmp_path / "y.npz", {"xyz.npy": lying})
    with pytest.raises(EgoposeError, match=r"xyz.npy: 204 bytes for shape \(9999999, 17, 3\)"):
        egopose.load(tmp_path / "y.npz")
    _rezip(tmp_path / "x.npz", tmp_path / "y.npz", {"xyz.npy": honest.replace(b"(1, 17, 3)", b"(1, 17, 3 ")})
    with pytest.raises(EgoposeError, match="its header cannot be read"):
        egopose.load(tmp_path / "y.npz")
    bomb = tmp_path / "bomb.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(META, b"{}")
        archive.writestr("xyz.npy", bytes(50 << 20))
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(EgoposeError, match="unpacks to 52428802 bytes in 2 members; at most 1000000"):
        egopose.load(bomb, max_bytes=1_000_000)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    egopose.save(body_pose(), tmp_path / "x.npz")
    data = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(data[: int(share * len(data))])
    with pytest.raises(EgoposeError):
        egopose.load(tmp_path / "x.npz")
    with pytest.raises(EgoposeError):
        egopose.load(tmp_path / "x.npz", format="native")


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet", ".trc", ".c3d"])
def test_a_full_disk_leaves_nothing_and_keeps_the_old_file(suffix: str, tmp_path: Path) -> None:
    """A file-size limit of the system stops the writer halfway, as a full disk does."""
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"old")
    code = f"""
import resource, signal, sys, numpy as np
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import egopose
rng = np.random.default_rng(0)
from egopose.skeleton import BODY17
pose = egopose.PoseSequence(BODY17, np.arange(4000), np.arange(4000) / 30, rng.normal(size=(4000, 17, 3)))
import egopose.io.parquet, importlib
for name in ("pyarrow", "pyarrow.parquet", "ezc3d"): importlib.import_module(name)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    egopose.save(pose, {str(path)!r})
except egopose.EgoposeError as error:
    print(error); sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stdout + done.stderr
    assert "cannot write" in done.stdout
    assert str(path) in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"


def test_the_limit_used_above_exists() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0


def test_status_without_point_survives(tmp_path: Path) -> None:
    pose = body_pose()
    status = np.array(pose.status)
    status[1, 0] = JointStatus.NO_CONSENSUS
    egopose.save(pose.replace(status=status), tmp_path / "x.npz")
    assert egopose.load(tmp_path / "x.npz").status[1, 0] == JointStatus.NO_CONSENSUS
