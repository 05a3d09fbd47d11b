"""Videos: time stamps, rotation, seeking and writing, checked by OpenCV's own decoder."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from egopose.camera import Rig
from egopose.errors import EgoposeError, EgoposeWarning
from egopose.io.checks import check_videos
from egopose.io.video import VideoWriter, probe, read_frames
from tests.io_cases import ring


def picture(i: int, width: int = 64, height: int = 48) -> np.ndarray:
    """A picture that says its number and which way is up: a bright corner at the top left."""
    image = np.full((height, width, 3), 20 + 8 * i, np.uint8)
    image[: height // 3, : width // 3] = (250, 40, 40)
    return image


def write(path: Path, n: int = 12, fps: float = 25, **size: int) -> Path:
    with VideoWriter(path, fps) as video:
        for i in range(n):
            video.add(picture(i, **size))
    return path


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", fps=30000 / 1001)
    info = probe(path)
    assert (info.size, info.rotation_deg, info.n_frames, info.codec) == ((64, 48), 0, 12, "h264")
    assert info.fps == pytest.approx(30000 / 1001, rel=1e-4)
    np.testing.assert_allclose(info.times_s, np.arange(12) * 1001 / 30000, atol=1e-4)
    frames = list(read_frames(path))
    assert [frame.index for frame in frames] == list(range(12))
    capture = cv2.VideoCapture(str(path))
    for i, frame in enumerate(frames):
        assert frame.time_s == pytest.approx(info.times_s[i])
        assert np.abs(frame.image.astype(int) - picture(i)).mean() < 6
        ok, oracle = capture.read()
        assert ok
        assert np.abs(frame.image.astype(int) - oracle[..., ::-1]).mean() < 3


def test_ranges_and_seeking(tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4", 30)
    every = [frame.image for frame in read_frames(path)]
    part = list(read_frames(path, start=17, stop=26, step=3))
    assert [frame.index for frame in part] == [17, 20, 23]
    for frame in part:
        np.testing.assert_array_equal(frame.image, every[frame.index])
        assert frame.time_s == pytest.approx(frame.index / 25)
    assert list(read_frames(path, start=3, stop=3)) == []
    with pytest.raises(EgoposeError, match="frame 30 is not there; the video has 30 frames"):
        next(read_frames(path, start=30))
    with pytest.raises(EgoposeError, match="expected 0 <= start <= stop"):
        next(read_frames(path, start=-1))


def test_uneven_time_stamps_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "vfr.mp4"
    stamps = [0, 3, 4, 10, 11, 20]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 30)
        for i, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    np.testing.assert_allclose(probe(path).times_s, np.array(stamps) / 30, atol=1e-4)
    assert [frame.time_s for frame in read_frames(path)] == pytest.approx([s / 30 for s in stamps], abs=1e-4)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_as_opencv_turns_it(degrees: int, tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(degrees)
        for i in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i), format="rgb24")))
        container.mux(stream.encode())
    capture = cv2.VideoCapture(str(path))
    oracle = capture.read()[1][..., ::-1]
    info = probe(path)
    assert info.rotation_deg != 0
    assert info.size == (oracle.shape[1], oracle.shape[0])
    assert info.stored_size == (64, 48)
    image = next(read_frames(path)).image
    assert image.shape == oracle.shape
    assert np.abs(image.astype(int) - oracle).mean() < 3
    assert next(read_frames(path, rotate=False)).image.shape == (48, 64, 3)


def test_odd_sizes_and_refusals(tmp_path: Path) -> None:
    assert probe(write(tmp_path / "odd.mp4", 2, width=63, height=47)).size == (64, 48)
    for images, message in (
        ([picture(0, width=32), picture(1)], "image 1 is 64 x 48, the first was 32 x 48"),
        ([np.zeros((4, 4), np.uint8)], r"expected \(H, W, 3\) uint8"),
    ):
        with pytest.raises(EgoposeError, match=message), VideoWriter(tmp_path / "y.mp4", 25) as video:
            [video.add(image) for image in images]
    with pytest.raises(EgoposeError, match="no image was added"), VideoWriter(tmp_path / "y.mp4", 25):
        pass
    with pytest.raises(EgoposeError, match="fps is 0"):
        VideoWriter(tmp_path / "y.mp4", 0)
    with pytest.raises(EgoposeError, match="cannot write"), VideoWriter(tmp_path / "odd.mp4" / "y.mp4", 25):
        pass
    with (
        pytest.raises(EgoposeError, match="cannot be written as a video"),
        VideoWriter(tmp_path / "y.txt", 25) as video,
    ):
        video.add(picture(0))
    assert [p.name for p in tmp_path.iterdir()] == ["odd.mp4"]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_damaged_videos(share: float, tmp_path: Path) -> None:
    path = write(tmp_path / "x.mp4")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    for job in (probe, lambda p: list(read_frames(p))):
        with pytest.raises(EgoposeError, match=r"x.mp4: not readable as a video"):
            job(path)
    with pytest.raises(EgoposeError, match="there is no such file"):
        probe(tmp_path / "y.mp4")
    (tmp_path / "t.mp4").write_text("no video")
    with pytest.raises(EgoposeError, match="not readable as a video"):
        probe(tmp_path / "t.mp4")


def test_a_video_of_another_size_than_its_calibration(tmp_path: Path) -> None:
    path = write(tmp_path / "cam01.mp4", 2)
    with pytest.warns(EgoposeWarning, match="cam01 is 64 x 48, calibrated at 1280 x 720"):
        assert check_videos(ring(), {"cam01": str(path)}) == ["cam01"]
    assert check_videos(Rig([ring()["cam01"].scaled((64, 48))]), {"cam01": str(path)}) == []


@pytest.mark.shared
def test_real_videos(shared_data: Path) -> None:
    folder = shared_data / "pose2sim_single"
    info = probe(folder / "videos/cam01.mp4")
    assert (info.size, info.n_frames, round(info.fps)) == ((1080, 1920), 100, 60)
    from egopose import load

    rig = load(folder / "calibration/Calib_qualisys.toml")
    with pytest.warns(EgoposeWarning, match="cam_01 is 1080 x 1920, calibrated at 1088 x 1920"):
        check_videos(rig, {"cam_01": str(folder / "videos/cam01.mp4")})
    assert probe(shared_data / "handpose3d_2cam/cam0_test.mp4").size == (720, 720)
