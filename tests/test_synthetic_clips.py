"""Rendered clips from outside: labels against depth and parts, lenses, the command, the demo, training windows."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from egopose import rigid
from egopose.cli import main
from egopose.errors import EgoposeError
from egopose.skeleton import BODY17, BODY17_HANDS
from egopose.train.rendered_files import load_rendered
from egopose.train.synthetic.dataset import SynthConfig, build, draw_weights
from egopose.train.synthetic.demo_clip import demo_clip
from egopose.train.synthetic.lenses import KINDS, random_camera
from egopose.train.synthetic.render import PARTS, render_clip, slack
from egopose.train.synthetic.sources import generated, load_recordings

SMALL = {"clips": 3, "frames": 3, "side": 64, "samples": 1, "seed": 4, "hands_up": 1.0}


@pytest.fixture(scope="module")
def clips():
    """One clip of each lens."""
    out = []
    for i, lens in enumerate(KINDS):
        source = generated(np.arange(6) / 4, np.random.default_rng(i))
        out.append(render_clip(source, (9, i), side=160, lens=lens, samples=1, hands_up=1.0, keep=("depth", "parts")))
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("rendered") / "a"
    build(SynthConfig(**SMALL), place)
    return place


def test_clip_has_consistent_labels(clips):
    for clip in clips:
        n = clip["times_s"].size
        assert clip["images"].shape == (n, 160, 160, 3)
        joints, T = clip["joints_world"], clip["T_world_camera"]
        assert joints.shape == (n, BODY17_HANDS.n_joints, 3)
        assert np.isfinite(joints).all()
        for k in range(n):
            np.testing.assert_array_equal(clip["camera"].moved(T[k]).visible(joints[k]), clip["in_view"][k])
        assert not (clip["visible"] & ~clip["in_view"]).any()
        rigid.check_transform(T, "clip")
        # the camera sits by the eyes, and the feet are on the floor
        eyes = joints[:, BODY17.indices(("left_eye", "right_eye"))].mean(axis=1)
        assert np.linalg.norm(T[:, :3, 3] - eyes, axis=1).max() < 0.15
        ankles = joints[:, BODY17.indices(("left_ankle", "right_ankle")), 2]
        assert 0.0 < ankles.min() < 0.2
        assert (clip["images"].reshape(n, -1).std(axis=1) > 3).all()


def test_depth_is_where_the_hand_is(clips):
    """Where a joint is seen, the surface lies just before it; the part mask names the limb."""
    checked = 0
    deep = dict(zip(BODY17_HANDS.joints, slack()))
    for clip in clips:
        for k in range(len(clip["images"])):
            camera = clip["camera"].moved(clip["T_world_camera"][k])
            uv = camera.project(clip["joints_world"][k])
            for j, joint in enumerate(BODY17_HANDS.joints):
                if not clip["visible"][k, j]:
                    continue
                column, row = np.floor(uv[j] + 0.5).astype(int)
                depth = clip["depth"][k, row, column]
                far = np.linalg.norm(clip["joints_world"][k, j] - clip["T_world_camera"][k][:3, 3])
                assert depth == 0 or far <= depth + deep[joint] + 1e-5
                if "_hand_" in joint and depth > 0 and abs(far - depth) < 0.02:
                    side = joint.split("_")[0]
                    part = PARTS[clip["parts"][k, row, column]]
                    checked += 1
                    assert part in ("held", *(f"{s}_{p}" for s in (side, "left", "right") for p in ("hand", "forearm")))
    assert checked > 60


def test_own_hand_is_what_is_seen_at_its_joints(clips):
    right = total = 0
    for clip in clips:
        for k in range(len(clip["images"])):
            uv = clip["camera"].moved(clip["T_world_camera"][k]).project(clip["joints_world"][k])
            for side in ("left", "right"):
                for finger in ("index", "middle", "ring"):
                    j = BODY17_HANDS.index(f"{side}_hand_{finger}_2")
                    if clip["visible"][k, j]:
                        column, row = np.floor(uv[j] + 0.5).astype(int)
                        right += PARTS[clip["parts"][k, row, column]] == f"{side}_hand"
                        total += 1
    assert total > 20
    assert right / total > 0.75


def test_bones_are_rigid_over_a_clip(clips):
    for clip in clips:
        for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")):
            for side in ("left", "right"):
                i, j = BODY17.index(f"{side}_{a}"), BODY17.index(f"{side}_{b}")
                length = np.linalg.norm(clip["joints_world"][:, i] - clip["joints_world"][:, j], axis=-1)
                # the wrist is clicked at the crease, a centimetre beyond the joint, and goes with the hand
                assert np.ptp(length) < (0.012 if b == "wrist" else 5e-5)


def test_lenses_cover_what_they_promise():
    rng = np.random.default_rng(0)
    for kind in KINDS:
        for _ in range(20):
            camera = random_camera(rng, 96, kind)
            assert camera.model == kind
            rays = camera.unproject(np.array([[0.0, 47.5], [95.0, 47.5]]))
            if kind == "pinhole":
                fov = np.degrees(np.arccos(rays[0] @ rays[1]))
                assert 68 < fov < 102
            else:
                # two pixels before the edge of the lens or of the image
                far = camera.unproject(np.array([[94.0, 47.5]]))[0]
                assert np.isnan(far).all() or np.degrees(np.arccos(far[2])) > 45


def test_interrupted_clip_leaves_nothing(tmp_path, monkeypatch):
    from egopose.train.synthetic import dataset

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset.np, "savez", full)
    with pytest.raises(EgoposeError, match="No space left"):
        build(SynthConfig(**{**SMALL, "clips": 1}), tmp_path / "x")
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["dataset.json"]


def test_reader_gives_what_training_reads(folder):
    clips = load_rendered(folder)
    assert len(clips) == 3
    for clip in clips:
        assert clip.images.shape == (3, 64, 64, 3)
        assert clip.subject == "generated"
        assert set(np.unique(clip.visible)) <= {-1, 0, 1}
        assert (clip.visible[:, BODY17.index("nose")] <= 0).all()
        assert (clip.visible[:, BODY17.n_joints :] >= 0).all()
        assert (np.diff(clip.times_s) > 0).all()


def test_training_windows_come_from_rendered_clips(folder):
    from egopose.model.config import ModelConfig
    from egopose.train.config import TrainConfig
    from egopose.train.rendered import RenderedSource

    config = TrainConfig(model=ModelConfig(), stage="images", rendered_batch=2, rendered_window=3)
    source = RenderedSource(load_rendered(folder), config)
    first, again = source.batch(0), source.batch(0)
    assert first.rotation.shape[:2] == (2, 3)
    for field in dataclasses.fields(first.frames):
        value, other = getattr(first.frames, field.name), getattr(again.frames, field.name)
        if value is not None:
            np.testing.assert_array_equal(np.asarray(value), np.asarray(other))


def test_command_renders_and_resumes(tmp_path, capsys):
    settings = tmp_path / "s.yaml"
    settings.write_text("\n".join(f"{key}: {value}" for key, value in {**SMALL, "clips": 2}.items()))
    arguments = ["synth", str(settings), "--out", str(tmp_path / "out"), "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["rendered"] == 2
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["rendered"] == 0
    settings.write_text("clips: two")
    assert main(arguments) == 1
    assert "clips" in capsys.readouterr().err


def test_demo_clip_can_be_read_back(tmp_path):
    import egopose
    from egopose.io.video import probe

    out = demo_clip(tmp_path, seconds=0.6, fps=10, side=96, samples=1)
    assert probe(out.video).n_frames == 6
    (camera,) = egopose.load(out.camera).cameras
    trajectory, truth = egopose.load(out.trajectory), egopose.load(out.truth)
    assert camera.size == (96, 96)
    assert truth.xyz.shape == (6, BODY17_HANDS.n_joints, 3)
    np.testing.assert_allclose(trajectory.times_s, truth.times_s)
    seen = camera.moved(trajectory.T_world_camera[0]).visible(truth.xyz[0])
    assert seen.any()
    assert not seen.all()


@pytest.mark.shared
def test_captured_motion_drives_the_body(shared_data):
    recordings = load_recordings([shared_data / "cmu_motion" / "val.npz"])
    weights = draw_weights(recordings, {"007": 0.0})
    assert weights.sum() == pytest.approx(1)
    assert all(w == 0 for w, clip in zip(weights, recordings) if clip.subject == "007")
    from egopose.body import load_body
    from egopose.train.synthetic.motion import animate

    body = load_body().shaped()
    for clip in recordings[::5]:
        source = clip.cut(0, 20, 1)
        motion = animate(body, source, np.random.default_rng(0), hands_up=0.0)
        joints = np.stack([body.pose(motion.R[t], motion.root[t]).rig_joints() for t in range(20)])
        # thighs, shins, upper arms and forearms point where the actor's did
        for side in ("left", "right"):
            for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
                mine = joints[:, BODY17.index(f"{side}_{b}")] - joints[:, BODY17.index(f"{side}_{a}")]
                theirs = source.joints[f"{side}_{b}"] - source.joints[f"{side}_{a}"]
                cosine = np.sum(mine * theirs, -1) / np.linalg.norm(mine, axis=-1) / np.linalg.norm(theirs, axis=-1)
                assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 0.1


def test_scores_and_error_bars_on_rendered_clips(folder):
    import torch

    from egopose.model.config import ModelConfig
    from egopose.model.network import EgoPoseNet
    from egopose.train.rendered_scores import calibrate_rendered, rendered_scores

    torch.manual_seed(0)
    model = EgoPoseNet(ModelConfig()).eval()
    clips = load_rendered(folder)
    scores = rendered_scores(model, clips)
    assert {"score", "body12_cm", "poses_body12_cm", "hand_mm"} <= set(scores)
    assert scores["score"] == pytest.approx(scores["body12_cm"] + scores["hand_mm"] / 10)
    assert all(np.isfinite(value) for value in scores.values())
    assert scores["hand_pa_mm"] <= scores["hand_mm"] + 1e-9
    fewer = rendered_scores(model, clips, most=1)
    assert fewer["body12_cm"] != scores["body12_cm"]
    before = model.sigma_factor.clone()
    reached = calibrate_rendered(model, clips * 20)
    assert model.sigma_factor.shape == before.shape
    assert torch.equal(model.sigma_factor[0, : BODY17.n_joints], before[0, : BODY17.n_joints])
    changed = (model.sigma_factor != before).any(dim=(1, 2))
    # without images hands get factors as well; in view this network says of nothing that it is
    assert changed[0]
    assert changed[1]
    # as they come as well, from errors of their own
    assert changed[3]
    assert not torch.equal(model.sigma_factor[1], model.sigma_factor[3])
    for ending in ("", "_causal"):
        assert reached[f"coverage50_out_of_view{ending}"] <= reached[f"coverage90_out_of_view{ending}"]
