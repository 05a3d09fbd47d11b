"""``egopose predict`` on input that is wrong: one clear line, exit status 1, and no file."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import egopose
from egopose import Clip, EgoposeError, Predictor, Trajectory
from egopose.camera import Camera, Rig
from egopose.cli import main
from egopose.errors import EgoposeWarning
from egopose.io.video import VideoWriter, probe
from egopose.model.engine import TorchEngine
from egopose.model.network import build
from egopose.model.weights import save_weights
from tests.nets import CAMERA, TINY, pictures, shake, walk

W, H = CAMERA.size


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A whole set of input that works."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("input")
    out = {name: folder / file for name, file in (
        ("video", "clip.mp4"), ("camera", "camera.json"), ("trajectory", "head.npz"), ("weights", "tiny.safetensors"),
    )}  # fmt: skip
    with VideoWriter(out["video"], fps=25) as video:
        for image in pictures(10):
            video.add(image)
    egopose.save(Rig([CAMERA]), out["camera"])
    t, T = walk(30)
    egopose.save(Trajectory(t, T), out["trajectory"])
    save_weights(out["weights"], shake(build(TINY, 0)), notes={"trained": ["body", "hands", "images"]})
    return out


def run(files: dict[str, Path], out: Path, *more: str, **other: Path | None) -> int:
    used = {**files, **other}
    words = ["predict"]
    if used["video"] is not None:
        words += [str(used["video"]), "--camera", str(used["camera"])]
    for name in ("trajectory", "weights"):
        if used[name] is not None:
            words += [f"--{name}", str(used[name])]
    return main([*words, "--out", str(out), *more])


def refused(
    capsys: pytest.CaptureFixture[str], files: dict[str, Path], folder: Path, *more: str, **other: Path | None
) -> str:
    """The one line of a refused prediction; nothing may be left behind."""
    before = {path.name for path in folder.iterdir()}
    assert run(files, folder / "pose.npz", *more, **other) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert {path.name for path in folder.iterdir()} == before
    return lines[0]


def test_the_input_works(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files, tmp_path / "pose.npz", "--json") == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 10
    assert egopose.load(tmp_path / "pose.npz").n_frames == 10


def test_zero_frames(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.mp4"
    with av.open(str(empty), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        container.start_encoding()
    assert empty.stat().st_size > 0
    line = refused(capsys, files, tmp_path, video=empty)
    assert "empty.mp4" in line
    assert "no frames" in line or "not a video" in line or "no video" in line


def test_unknown_codec(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strange = tmp_path / "strange.mp4"
    data = files["video"].read_bytes()
    assert b"avc1" in data
    strange.write_bytes(data.replace(b"avc1", b"zzz9"))
    line = refused(capsys, files, tmp_path, video=strange)
    assert "strange.mp4" in line
    assert "its codec is not known here; convert the video to H.264" in line


def test_not_a_video_and_no_video(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("hello")
    assert "notes.mp4" in refused(capsys, files, tmp_path, video=text)
    assert "gone.mp4" in refused(capsys, files, tmp_path, video=tmp_path / "gone.mp4")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(files["video"].read_bytes()[:600])
    assert "cut.mp4" in refused(capsys, files, tmp_path, video=cut)


def test_variable_frame_rate_is_read_by_its_stamps(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vfr.mp4"
    stamps = np.array([0, 1, 2, 5, 6, 12, 13, 14, 20])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 30)
        for image, stamp in zip(pictures(9), stamps):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = int(stamp), Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert run(files, tmp_path / "pose.npz", video=path) == 0
    pose = egopose.load(tmp_path / "pose.npz")
    np.testing.assert_allclose(pose.times_s - pose.times_s[0], (stamps - stamps[0]) / 30, atol=1e-3)


def test_portrait_videos_take_either_camera(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stored lying, shown upright: a camera of the stored or of the upright image fits; another does not."""
    path = tmp_path / "portrait.mp4"
    data = bytearray(files["video"].read_bytes())
    # a quarter turn in the track header: the identity matrix is written over
    one, zero = b"\x00\x01\x00\x00", b"\x00\x00\x00\x00"
    at = data.index(b"tkhd") + 4 + 40
    assert data[at : at + 4] == one
    minus = b"\xff\xff\x00\x00"
    matrix = zero + one + zero + minus + zero + zero + H.to_bytes(2, "big") + b"\x00\x00" + zero + b"\x40\x00\x00\x00"
    data[at : at + 36] = matrix
    path.write_bytes(bytes(data))
    info = probe(path)
    assert (info.size, info.stored_size) == ((H, W), (W, H))
    upright = tmp_path / "upright.json"
    egopose.save(Rig([CAMERA.rotated90(info.rotation_deg // 90)]), upright)
    results = []
    for name, camera in (("stored", files["camera"]), ("upright", upright)):
        assert run(files, tmp_path / f"{name}.npz", "--space", "head", video=path, camera=camera) == 0
        results.append(egopose.load(tmp_path / f"{name}.npz"))
    assert results[0].n_frames == results[1].n_frames == 10
    wrong = tmp_path / "wrong.json"
    egopose.save(Rig([Camera.pinhole(60.0, None, (100, 100), name="ego")]), wrong)
    line = refused(capsys, files, tmp_path, video=path, camera=wrong)
    assert f"images are {H} x {W} (stored as {W} x {H})" in line


def test_camera_of_another_size(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.json"
    egopose.save(Rig([Camera.pinhole(300.0, None, (640, 480), name="ego")]), other)
    line = refused(capsys, files, tmp_path, camera=other)
    assert "images are 120 x 90, the camera is calibrated for 640 x 480" in line
    # nor where the weights do not read images
    untrained = Predictor(TorchEngine(shake(build(TINY, 0))), notes={"trained": ["body"]})
    t, T = walk(30)
    with pytest.raises(EgoposeError, match="calibrated for 640 x 480"):
        untrained.predict(Clip(files["video"], Camera.pinhole(300.0, None, (640, 480)), Trajectory(t, T)))
    assert "pinhole:DEGREES" in refused(capsys, files, tmp_path, camera=Path("pinhole:200"))


def test_trajectory_that_ends_early_or_has_a_gap(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t, T = walk(60)
    for name, keep, word in (("early", np.arange(6), "lie outside"), ("gap", np.r_[0:4, 9:30], "falls into a gap")):
        path = tmp_path / f"{name}.npz"
        egopose.save(Trajectory(t[keep], T[keep], max_gap_s=0.1), path)
        line = refused(capsys, files, tmp_path, trajectory=path)
        assert word in line
        assert "missing_poses='nearest'" in line
        for policy in ("nearest", "absent"):
            out = tmp_path / f"{name}-{policy}.npz"
            assert run(files, out, "--missing-poses", policy, trajectory=path) == 0
            pose = egopose.load(out)
            assert pose.provenance["missing_poses"] == policy
            assert pose.valid.all() == (policy == "nearest")


def test_broken_poses(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["tracking_timestamp_us,tx_world_device,ty_world_device,tz_world_device,qx_world_device,qy_world_device,"
            "qz_world_device,qw_world_device"]  # fmt: skip
    rows += [f"{i * 33333},0,0,{'nan' if i == 5 else 1.6},0,0,0,1" for i in range(30)]
    path = tmp_path / "closed_loop_trajectory.csv"
    path.write_text("\n".join(rows) + "\n")
    line = refused(capsys, files, tmp_path, trajectory=path)
    assert "closed_loop_trajectory.csv" in line
    text = tmp_path / "head.csv"
    text.write_text("what,is,this\n1,2,3\n")
    assert "head.csv" in refused(capsys, files, tmp_path, trajectory=text)
    assert "gone.npz" in refused(capsys, files, tmp_path, trajectory=tmp_path / "gone.npz")


def test_weights_of_another_version_or_damaged(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with safe_open(str(files["weights"]), framework="pt") as stream:
        metadata, state = stream.metadata(), {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118
    later = tmp_path / "later.safetensors"
    save_file(state, str(later), metadata={**metadata, "version": "99"})
    assert "version 99, this package reads version" in refused(capsys, files, tmp_path, weights=later)
    data = bytearray(files["weights"].read_bytes())
    data[-7] ^= 0x55
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(bytes(data))
    assert "corrupted, the tensors hash to" in refused(capsys, files, tmp_path, weights=damaged)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(bytes(data[: len(data) // 2]))
    assert "not a whole safetensors file" in refused(capsys, files, tmp_path, weights=cut)
    assert "neither a weights file nor shipped" in refused(capsys, files, tmp_path, weights=Path("micro"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "torch finds no CUDA GPU here" in refused(capsys, files, tmp_path, "--device", "cuda")
    assert "is not known" in refused(capsys, files, tmp_path, "--device", "quantum")


def test_other_options(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "mode is 'fast'" in refused(capsys, files, tmp_path, "--mode", "fast")
    assert "no such file of hands" in refused(capsys, files, tmp_path, "--hands", str(tmp_path / "gone.npz"))
    assert main(["predict", "--trajectory", str(files["trajectory"])]) == 1
    assert "--out is missing" in capsys.readouterr().err
    assert main(["predict", "--camera", "pinhole:90", "--out", str(tmp_path / "x.npz")]) == 1
    assert "without a clip" in capsys.readouterr().err
    assert main(["predict", "--out", str(tmp_path / "x.npz")]) == 1
    assert "neither frames nor a trajectory" in capsys.readouterr().err


def test_wrong_types_are_named() -> None:
    t, T = walk(5)
    for make, word in (
        (lambda: Clip(trajectory=Trajectory(t, T), camera=3), "camera is a int"),  # type: ignore[arg-type]
        (lambda: Clip(trajectory=Trajectory(t, T), imu=[1]), "imu is a list"),  # type: ignore[arg-type]
        (lambda: Clip(frames=3), "frames is a int"),  # type: ignore[arg-type]
        (lambda: Clip(frames=[], times_s="ab"), "times"),  # type: ignore[arg-type]
        (lambda: Trajectory("a"), "trajectory"),  # type: ignore[call-arg, arg-type]
        (lambda: Trajectory("a", T), "not numbers"),
        (lambda: Trajectory(t, [["x"]]), "not numbers"),
        (lambda: Trajectory(t, T, max_gap_s="wide"), "max_gap_s"),  # type: ignore[arg-type]
        (lambda: Predictor.from_pretrained(None), "expected a name"),  # type: ignore[arg-type]
        (lambda: Predictor.from_pretrained(3), "expected a name"),  # type: ignore[arg-type]
        (lambda: Predictor.from_pretrained("nano", device=3), "device"),  # type: ignore[arg-type]
    ):  # fmt: skip
        with pytest.raises(EgoposeError, match=word):
            make()


def test_wrong_arguments_of_predict() -> None:
    torch.set_num_threads(1)
    predictor = Predictor(TorchEngine(shake(build(TINY, 0))), notes={"trained": ["body"]})
    t, T = walk(5)
    clip = Clip(trajectory=Trajectory(t, T))
    for arguments, word in (
        ({"mode": 1.5}, "mode is 1.5"), ({"mode": -1}, "mode is -1"), ({"floor_z": "low"}, "floor_z is"),
        ({"space": 3}, "space is 3"), ({"missing_poses": None}, "missing_poses is None"),
        ({"progress": True}, "progress is True"),
    ):  # fmt: skip
        with pytest.raises(EgoposeError, match=word):
            predictor.predict(clip, **arguments)  # type: ignore[arg-type]
    with pytest.raises(EgoposeError, match=r"expected egopose\.Clip"):
        predictor.predict("clip.mp4")  # type: ignore[arg-type]


def test_triangulate_progress_must_be_callable() -> None:
    from egopose.demo import exo_capture
    from egopose.triangulate import triangulate

    capture = exo_capture(seconds=0.1)
    with pytest.raises(EgoposeError, match="progress is True"):
        triangulate(capture.rig, capture.observations, progress=True)  # type: ignore[arg-type]


def test_a_picture_of_nothing_is_said(tmp_path: Path, files: dict[str, Path]) -> None:
    predictor = Predictor(TorchEngine(shake(build(TINY, 0))), notes={"trained": ["body"]})
    with pytest.warns(EgoposeWarning, match="average pose"):
        predictor.predict(Clip(files["video"], CAMERA))
