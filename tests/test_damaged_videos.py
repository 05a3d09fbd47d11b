"""Damaged videos through the command: what is wrong is named with view and frames, and the rest is used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import egopose
from egopose.cli import main
from egopose.demo import ring_rig
from egopose.detect import base
from egopose.detect.run import _numbered, ranges_of
from egopose.io.video import probe, read_frames
from tests.fake_detector import write_spot_video

av = pytest.importorskip("av")
FRAMES, SIZE = 60, (320, 240)


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The detector is installed as another package would be, so that worker processes find it too."""
    info = tmp_path / "site" / "bright_spot-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bright-spot\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{base.GROUP}]\nbright-spot = tests.fake_detector:BrightSpot\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("EGOPOSE_CACHE", str(tmp_path / "cache"))


def packets(path: Path) -> list[tuple[int, int, int]]:
    """Place in the file, size and number of each coded frame, in coding order."""
    with av.open(str(path)) as container:
        found = [(p.pos, p.size, p.pts) for p in container.demux(video=0) if p.size]
    stamps = sorted(pts for _, _, pts in found)
    return [(pos, size, stamps.index(pts)) for pos, size, pts in found]


def overwrite(path: Path, first: int, last: int) -> list[int]:
    """Random bytes over some coded frames in the middle of a file; returns the frames hit."""
    hit = [p for p in packets(path) if first <= p[2] <= last]
    content = bytearray(path.read_bytes())
    for position, size, _ in hit:
        content[position : position + size] = np.random.default_rng(0).bytes(size)
    path.write_bytes(content)
    return sorted(number for _, _, number in hit)


def index_first(path: Path) -> None:
    """Put the index of an mp4 at its start, so that a cut file still has it."""
    moved = path.with_name("moved.mp4")
    with av.open(str(path)) as source, av.open(str(moved), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    moved.replace(path)


@pytest.fixture
def capture(tmp_path: Path) -> tuple[Path, Path]:
    """Six videos of one moving spot and the calibration of the first five."""
    rig = ring_rig(6, size=SIZE)
    t = np.arange(FRAMES) / 30
    spot = np.stack([0.3 * np.cos(2 * t), 0.3 * np.sin(3 * t), 1.0 + 0.2 * np.sin(t)], axis=1)
    folder = tmp_path / "videos"
    folder.mkdir()
    for camera in rig.cameras:
        dark = slice(20, 35) if camera.name == rig.names[2] else None
        write_spot_video(folder / f"{camera.name}.mp4", camera.project(spot), size=SIZE, dark=dark)
    egopose.save(rig.subset(rig.names[:5]), tmp_path / "rig.json")
    return tmp_path / "rig.json", folder


def triangulate(rig: Path, videos: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict, Path]:
    out = videos.parent / "out.npz"
    command = ["triangulate", rig, videos, "--out", out, "--detector", "bright-spot"]
    said = []
    for more in (["--report", videos.parent / "report.html"], ["--json"]):
        status = main([str(a) for a in [*command, *more]])
        said.append(capsys.readouterr())
        assert not status, said[-1].err
        assert "Traceback" not in said[-1].err
    report = json.loads(said[1].out)
    assert report["notes"] == json.loads((videos.parent / "report.json").read_text())["notes"]
    page = (videos.parent / "report.html").read_text()
    for note in report["notes"]:
        assert f"note: {note}" in said[0].out
        assert note.split(":")[0] in page
    return report, out


def test_each_kind_of_damage_is_named_and_the_rest_is_used(capture, capsys) -> None:
    rig, folder = capture
    names = [path.stem for path in sorted(folder.iterdir())]
    hit = overwrite(folder / f"{names[0]}.mp4", 22, 30)
    assert len(hit) == 9
    index_first(folder / f"{names[1]}.mp4")
    cut = next(p for p in packets(folder / f"{names[1]}.mp4") if p[2] == 40)
    content = (folder / f"{names[1]}.mp4").read_bytes()
    (folder / f"{names[1]}.mp4").write_bytes(content[: cut[0]])
    left = probe(folder / f"{names[1]}.mp4").n_frames
    content = (folder / f"{names[4]}.mp4").read_bytes()
    (folder / f"{names[4]}.mp4").write_bytes(content[: len(content) // 2])

    report, out = triangulate(rig, folder, capsys)
    notes = report["notes"]
    assert f"{names[0]}: 9 frames could not be decoded, the file is damaged there: 22-30" in notes
    assert 30 < left <= 41
    assert any(n.startswith(f"{names[1]}: ends at frame ") and n.endswith(" early") for n in notes)
    assert f"{names[2]}: 15 dark frames: 20-34" in notes
    assert any(n.startswith(f"{names[4]}: left out, ") and "not readable as a video" in n for n in notes)
    assert any(f"'{names[5]}'" in n or f" {names[5]}" in n for n in notes if "calibration" in n or "no camera" in n)
    assert not any(n.startswith(f"{names[3]}:") for n in notes)
    # behind the damage the view is used again, and every frame has its joints
    pose = egopose.load(out)
    assert pose.n_frames == FRAMES
    assert pose.valid[:, :17].all()
    rows = {row["name"]: row for row in report["cameras"]}
    assert rows[names[0]]["seen_share"] == pytest.approx((FRAMES - 9) / FRAMES * 17 / 59, rel=1e-6)


def test_two_good_views_are_the_least(capture, capsys) -> None:
    rig, folder = capture
    for path in sorted(folder.iterdir())[:5]:
        path.write_bytes(b"nothing" * 100)
    command = ["triangulate", str(rig), str(folder), "--out", str(folder.parent / "x.npz"), "--detector", "bright-spot"]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "not readable as a video" in said
    assert "view '" in said


def test_frames_keep_their_numbers_behind_damage(tmp_path: Path) -> None:
    t = np.arange(FRAMES)
    path = write_spot_video(tmp_path / "a.mp4", np.stack([40 + 3.0 * t, 100 + 20 * np.sin(t / 5)], 1), size=SIZE)
    whole = [(f.index, f.time_s) for f in read_frames(path)]
    hit = overwrite(path, 25, 29)
    rest = [(f.index, f.time_s) for f in read_frames(path, past_damage=True)]
    assert rest == [w for w in whole if w[0] not in hit]
    with pytest.raises(egopose.EgoposeError, match="damaged"):
        list(read_frames(path))
    part = [f.index for f in read_frames(path, start=20, stop=40, past_damage=True)]
    assert part == [n for n in range(20, 40) if n not in hit]


def test_a_damaged_first_frame_does_not_refuse_the_video(tmp_path: Path) -> None:
    t = np.arange(FRAMES)
    path = write_spot_video(tmp_path / "a.mkv", np.stack([40 + 3.0 * t, 100 + 20 * np.sin(t / 5)], 1), size=SIZE)
    with av.open(str(path)) as container:
        keys = [p.is_keyframe for p in container.demux(video=0) if p.size]
    assert keys[0]
    assert probe(path).n_frames == FRAMES


def test_ranges_in_words() -> None:
    assert ranges_of([3]) == "3"
    assert ranges_of([3, 10, 11, 12, 20, 21]) == "3, 10-12, 20-21"
    assert ranges_of(np.arange(0, 40, 2)) == "0, 2, 4, 6, 8, 10, 12, 14 and 12 more"


def test_frame_numbers_rise_whatever_the_clock_does() -> None:
    np.testing.assert_array_equal(_numbered(np.array([0.0, 1.1, 1.9, 5.2])), [0, 1, 2, 5])
    np.testing.assert_array_equal(_numbered(np.array([0.0, 0.1, 0.2, 5.0, 5.1, 6.0])), [0, 1, 2, 5, 6, 7])
