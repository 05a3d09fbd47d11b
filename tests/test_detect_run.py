"""Whole videos through a tiny detector: cached by content, resumed, damage named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

import egopose
from egopose.detect import base
from egopose.detect.run import detect_people, detect_videos, list_videos
from egopose.errors import EgoposeError
from tests.fake_detector import write_spot_video

pytest.importorskip("av")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector is registered as another package would do it."""
    point = EntryPoint("bright-spot", "tests.fake_detector:BrightSpot", base.GROUP)
    monkeypatch.setattr(base, "entry_points", lambda group: [point] if group == base.GROUP else [])


def path_of_spot(frames: int = 20) -> np.ndarray:
    t = np.arange(frames)
    return np.stack([40 + 2.0 * t, 60 + 10 * np.sin(t / 5)], axis=1)


def run(videos: dict[str, Path], folder: Path, **options):
    return detect_videos(videos, "bright-spot", options, cache=folder / "cache", workers=0)


def test_joints_are_where_the_spot_is(tmp_path: Path) -> None:
    spots = path_of_spot()
    videos = {name: write_spot_video(tmp_path / f"{name}.mp4", spots) for name in ("a", "b")}
    found = run(videos, tmp_path)
    assert found.views == ("a", "b")
    assert found.fps == pytest.approx(30, rel=1e-3)
    assert found.sizes == ((160, 120), (160, 120))
    middle = found.uv_px[:, :, :17].mean(axis=2)
    assert np.isnan(found.uv_px[:, :, 17:]).all()
    np.testing.assert_allclose(middle, np.broadcast_to(np.trunc(spots), middle.shape), atol=1.0)
    assert found.provenance["notes"] == []


def test_a_finished_video_is_never_processed_twice(tmp_path: Path) -> None:
    log = tmp_path / "log"
    spots = path_of_spot()
    videos = {name: write_spot_video(tmp_path / f"{name}.mp4", spots + shift) for name, shift in (("a", 0), ("b", 5))}
    first = run(videos, tmp_path, log=str(log))
    assert len(log.read_text().splitlines()) == 40
    renamed = {"c": videos["a"].rename(tmp_path / "c.mp4"), "b": videos["b"]}
    again = run(renamed, tmp_path, log=str(log))
    assert len(log.read_text().splitlines()) == 40
    assert again.uv_px.tobytes() == first.uv_px.tobytes()
    # another content is another result
    write_spot_video(tmp_path / "b.mp4", spots[::-1])
    other = run({"c": tmp_path / "c.mp4", "b": tmp_path / "b.mp4"}, tmp_path, log=str(log))
    assert len(log.read_text().splitlines()) == 60
    assert not np.array_equal(other.uv_px[1], first.uv_px[1], equal_nan=True)
    # and so are other options
    run(renamed, tmp_path, log=str(log), slow_s=1e-6)
    assert len(log.read_text().splitlines()) == 100


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    videos = {name: write_spot_video(tmp_path / f"{name}.mp4", path_of_spot() + s) for name, s in (("a", 0), ("b", 3))}
    first = run(videos, tmp_path)
    for kept in (tmp_path / "cache").iterdir():
        kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])
    again = run(videos, tmp_path)
    assert again.uv_px.tobytes() == first.uv_px.tobytes()


def test_a_video_that_ends_early_and_one_that_goes_dark_are_named(tmp_path: Path) -> None:
    spots = path_of_spot(30)
    videos = {
        "whole": write_spot_video(tmp_path / "whole.mp4", spots),
        "short": write_spot_video(tmp_path / "short.mp4", spots[:18]),
        "dark": write_spot_video(tmp_path / "dark.mp4", spots, dark=slice(10, 20)),
    }
    found = run(videos, tmp_path)
    assert found.n_frames == 30
    notes = found.provenance["notes"]
    assert "short: ends at frame 17, 12 early" in notes
    assert "dark: 10 dark frames: 10-19" in notes
    assert any(note.startswith("dark: nobody found in 33 %") for note in notes)
    assert not any(note.startswith("whole") for note in notes)
    assert np.isnan(found.uv_px[1, 18:]).all()
    assert np.isnan(found.uv_px[2, 10:20]).all()
    assert (found.score[2, 10:20] == 0).all()


def test_a_cut_file_is_used_as_far_as_it_goes_or_named(tmp_path: Path) -> None:
    good = write_spot_video(tmp_path / "good.mp4", path_of_spot(60))
    cut = write_spot_video(tmp_path / "cut.mkv", path_of_spot(60))
    content = cut.read_bytes()
    cut.write_bytes(content[: int(0.6 * len(content))])
    found = run({"good": good, "cut": cut}, tmp_path)
    assert any(note.startswith("cut: ") for note in found.provenance["notes"])
    assert np.isfinite(found.uv_px[1, 0, :17]).all()
    assert np.isnan(found.uv_px[1, -1]).all()


def test_what_is_no_video_is_refused_with_the_view_named(tmp_path: Path) -> None:
    good = write_spot_video(tmp_path / "good.mp4", path_of_spot())
    (tmp_path / "bad.mp4").write_bytes(b"no video at all" * 50)
    with pytest.raises(EgoposeError, match="'bad'"):
        run({"good": good, "bad": tmp_path / "bad.mp4"}, tmp_path)
    # with two good ones the rest is used
    other = write_spot_video(tmp_path / "other.mp4", path_of_spot() + 5)
    found = run({"good": good, "bad": tmp_path / "bad.mp4", "other": other}, tmp_path)
    assert found.views == ("good", "other")
    assert found.provenance["notes"][0].startswith("bad: left out, ")


def test_several_people_keep_their_places_and_their_own_cache(tmp_path: Path) -> None:
    spots = np.stack([path_of_spot(), 100 - path_of_spot()[::-1] / 2], axis=1)
    videos = {name: write_spot_video(tmp_path / f"{name}.mp4", spots) for name in ("a", "b")}
    found = detect_people(videos, 2, "bright-spot", cache=tmp_path / "cache", workers=0)
    assert found.n_people == 2
    assert (found.counts == 2).all()
    for k in range(2):
        middle = found.layers[k].uv_px[:, :, :17].mean(axis=2)
        np.testing.assert_allclose(middle, np.broadcast_to(np.trunc(spots[:, k]), middle.shape), atol=1.5)
    again = detect_people(videos, 2, "bright-spot", cache=tmp_path / "cache", workers=0)
    assert all(a.uv_px.tobytes() == b.uv_px.tobytes() for a, b in zip(found.layers, again.layers))
    one = detect_videos(videos, "bright-spot", cache=tmp_path / "cache", workers=0)
    assert one.uv_px.tobytes() == found.layers[0].uv_px.tobytes()
    with pytest.raises(EgoposeError, match="people is 0"):
        detect_people(videos, 0, "bright-spot")


def test_different_rates_are_refused(tmp_path: Path) -> None:
    videos = {
        "slow": write_spot_video(tmp_path / "slow.mp4", path_of_spot(), fps=30),
        "fast": write_spot_video(tmp_path / "fast.mp4", path_of_spot(), fps=60),
    }
    with pytest.raises(EgoposeError, match=r"slow at 30\.000 and fast at 60\.000"):
        run(videos, tmp_path)


def test_lists_of_videos(tmp_path: Path) -> None:
    with pytest.raises(EgoposeError, match="not a folder"):
        list_videos(tmp_path / "nowhere")
    with pytest.raises(EgoposeError, match="no video in it"):
        list_videos(tmp_path)
    for name in ("b.mp4", "a.MOV", "notes.txt"):
        (tmp_path / name).touch()
    assert list(list_videos(tmp_path)) == ["a", "b"]
    (tmp_path / "a.avi").touch()
    with pytest.raises(EgoposeError, match="same view"):
        list_videos(tmp_path)
    with pytest.raises(EgoposeError, match="no videos given"):
        detect_videos({}, "bright-spot")


SCRIPT = """
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from egopose.detect import base
base.entry_points = lambda group: [EntryPoint("bright-spot", "tests.fake_detector:BrightSpot", group)]
from egopose.detect.run import detect_videos, list_videos
from egopose import save
folder = Path(sys.argv[1])
found = detect_videos(
    list_videos(folder / "videos"), "bright-spot", {"slow_s": 0.004}, cache=folder / "cache", workers=0
)
save(found, folder / "out.npz")
"""


def test_killed_at_any_moment_and_resumed_the_result_has_the_same_bits(tmp_path: Path) -> None:
    spots = path_of_spot(50)
    for case in ("whole", "killed"):
        (tmp_path / case / "videos").mkdir(parents=True)
        for v in range(4):
            write_spot_video(tmp_path / case / "videos" / f"cam{v}.mp4", spots + v)
    command = [sys.executable, "-c", SCRIPT]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(egopose.__file__).parent.parent}"}

    def start(case: str) -> subprocess.Popen:
        return subprocess.Popen([*command, str(tmp_path / case)], env=environment, cwd=ROOT)

    begun = time.monotonic()
    assert start("whole").wait(timeout=900) == 0
    whole_s = time.monotonic() - begun
    rng = np.random.default_rng()
    moments = np.sort(rng.uniform(0.3, 0.95, 3)) * whole_s
    for moment in moments:
        process = start("killed")
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=300)
    assert start("killed").wait(timeout=900) == 0
    one, two = (egopose.load(tmp_path / case / "out.npz") for case in ("whole", "killed"))
    assert one.uv_px.tobytes() == two.uv_px.tobytes(), f"killed after {moments} s"
    assert one.score.tobytes() == two.score.tobytes()
    assert one.provenance["notes"] == two.provenance["notes"]
