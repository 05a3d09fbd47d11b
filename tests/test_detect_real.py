"""The real nets on real videos: killed and resumed with two workers, damaged inputs named."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import egopose
from egopose.cli import main
from egopose.detect import weights

pytestmark = [pytest.mark.shared, pytest.mark.slow]
ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("av")
pytest.importorskip("ai_edge_litert")
FRAMES = 24

SCRIPT = """
import sys
from pathlib import Path
from egopose import save
from egopose.detect.run import detect_videos, list_videos
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    save(detect_videos(list_videos(folder / "videos"), cache=folder / "cache", workers=2), folder / "out.npz")
"""


def cut(source: Path, target: Path, frames: int, *, dark: range = range(0)) -> Path:
    """The first frames of a video, some of them black."""
    from egopose.io.video import VideoWriter, read_frames

    with VideoWriter(target, fps=60) as video:
        for t, frame in enumerate(read_frames(source)):
            if t == frames:
                break
            video.add(np.zeros_like(frame.image) if t in dark else frame.image)
    return target


@pytest.fixture(scope="module")
def clips(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if weights.missing():
        pytest.skip("the detector's weights are not fetched")
    folder = tmp_path_factory.mktemp("clips")
    for path in sorted((shared_data / "pose2sim_single" / "videos").glob("cam*.mp4")):
        cut(path, folder / path.name, FRAMES)
    return folder


def children_of(process: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == process:
                    found.append(int(entry.name))
            except (OSError, IndexError):
                continue
    return found


def running(process: int) -> bool:
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_killed_at_random_moments_with_two_workers(clips: Path, tmp_path: Path) -> None:
    script = tmp_path / "detect.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(egopose.__file__).parent.parent)}
    for case in ("whole", "killed"):
        shutil.copytree(clips, tmp_path / case / "videos")

    def start(case: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, str(script), str(tmp_path / case)], env=environment, cwd=ROOT)

    begun = time.monotonic()
    assert start("whole").wait(timeout=3000) == 0
    whole_s = time.monotonic() - begun
    moments = np.sort(np.random.default_rng().uniform(0.25, 0.9, 2)) * whole_s
    left: list[int] = []
    for moment in moments:
        process = start("killed")
        time.sleep(moment)
        left += children_of(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=300)
    assert start("killed").wait(timeout=3000) == 0
    one, two = (egopose.load(tmp_path / case / "out.npz") for case in ("whole", "killed"))
    assert one.uv_px.tobytes() == two.uv_px.tobytes(), f"killed after {moments} s"
    assert one.score.tobytes() == two.score.tobytes()
    assert one.provenance["notes"] == two.provenance["notes"]
    assert np.isfinite(one.uv_px[:, :, :17]).all(-1).mean() > 0.7
    # nobody works on for a process that is gone
    deadline = time.monotonic() + 300
    while any(running(child) for child in left) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not [child for child in left if running(child)]


def test_damaged_videos_are_named_in_the_report(
    clips: Path, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(clips / "cam01.mp4", videos / "cam01.mp4")
    cut(clips / "cam02.mp4", videos / "cam02.mp4", FRAMES - 8)
    cut(clips / "cam03.mp4", videos / "cam03.mp4", FRAMES, dark=range(10, 16))
    content = bytearray((clips / "cam04.mp4").read_bytes())
    # a stretch of the picture data of one camera is lost
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    (videos / "cam04.mp4").write_bytes(bytes(content))
    shutil.copy(clips / "cam01.mp4", videos / "cam99.mp4")
    monkeypatch.setenv("EGOPOSE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "weights").symlink_to(Path.home() / ".cache" / "egopose" / "weights")
    rig = shared_data / "pose2sim_single" / "calibration" / "Calib_qualisys.toml"
    out = tmp_path / "take.npz"
    assert main(["triangulate", str(rig), str(videos), "--out", str(out)]) in (0, None)
    said = capsys.readouterr().out
    assert "cam02: ends at frame" in said
    assert "cam03: 6 dark frames" in said
    assert "cam99" in said
    notes = egopose.load(out).provenance["observations"]["notes"]
    # the decoder hides the loss or gives up there: either way joints stay, and giving up is said
    assert all(not note.startswith("cam01:") for note in notes)
    pose = egopose.load(out)
    assert pose.valid[:, :17].mean() > 0.5
