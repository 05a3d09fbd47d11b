"""Single frames: mirrored ones are of the mirrored world; the counts of the finder; a stage that learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egopose import rigid
from egopose.errors import EgoposeError
from egopose.model.network import HEAT_CHANNELS, EgoPoseNet, build
from egopose.model.track import heat_peaks
from egopose.skeleton import BODY17_HANDS
from egopose.train.frames import FrameSource, finder_scores, seldom_seen, shown_scores
from egopose.train.loop import Trainer
from egopose.train.rendered import mirrored_clip
from egopose.train.stages import single_clips
from tests.nets import CAMERA, TINY
from tests.test_train_loop import config
from tests.test_train_rendered import LEFT, RIGHT, rendered


def source(out: Path) -> FrameSource:
    return FrameSource([rendered()], config(out, rendered_batch=3, rendered_window=4))


def test_frames_know_nothing_of_each_other_and_follow_from_the_step(tmp_path: Path) -> None:
    frames = source(tmp_path)
    one, two, other = frames.batch(5), frames.batch(5), frames.batch(6)
    assert one.frames.image is not None
    assert torch.equal(one.frames.image, two.frames.image)
    assert not torch.equal(one.frames.image, other.frames.image)
    assert one.frames.hands is None
    assert not one.frames.head_known.any()
    assert torch.equal(one.first, torch.eye(4, dtype=torch.bool).expand_as(one.first))
    assert torch.isfinite(one.targets.xyz).all()
    # both hands come before the camera, as often as frames are mirrored
    many = torch.cat([frames.batch(i).targets.visible.flatten(0, 1) for i in range(20)])
    left, right = ((many[:, side] == 1).all(-1) for side in (LEFT, RIGHT))
    assert torch.equal(left, ~right)
    assert 0.35 < left.float().mean() < 0.65
    with pytest.raises(EgoposeError, match="no rendered clip"):
        FrameSource([], config(tmp_path))


def test_frames_that_show_seldom_seen_joints_are_drawn_more_often(tmp_path: Path) -> None:
    clip = rendered()
    visible = np.zeros_like(clip.visible)
    knee, wrist = BODY17_HANDS.index("left_knee"), BODY17_HANDS.index("left_wrist")
    visible[:, wrist] = 1
    visible[2, knee] = 1
    n = len(clip)
    # a twelfth for each joint: one over its share of the frames
    np.testing.assert_allclose(seldom_seen(visible), [(1 + n * (i == 2)) / 12 for i in range(n)])
    assert (seldom_seen(np.zeros_like(visible)) == 0).all()
    frames = FrameSource([replace(clip, visible=visible)], config(tmp_path, rendered_batch=50, rendered_window=4))
    told = frames.batch(0).targets.visible.flatten(0, 1)
    share = float((told[:, [knee, BODY17_HANDS.index("right_knee")]] == 1).any(-1).float().mean())
    # half of all frames are drawn alike, of the other half those that show a knee stand for one joint of two
    assert share == pytest.approx(0.5 / n + 0.5 * (1 + n) / (2 * n), abs=0.08)


def test_what_images_show_is_scored_joint_by_joint(tmp_path: Path) -> None:
    model, clip = build(TINY, 0), rendered()
    visible = np.zeros_like(clip.visible)
    knee, wrist = BODY17_HANDS.index("left_knee"), BODY17_HANDS.index("left_wrist")
    visible[:, wrist], visible[:1, knee] = 1, 1
    with torch.no_grad():
        model.heads.shown.joints[2].weight.zero_()
        model.heads.shown.joints[2].bias.zero_()
        model.heads.shown.mean.zero_()
    joints = rigid.transform_points(rigid.invert(clip.T_world_camera), clip.joints)
    far = np.linalg.norm(joints, axis=-1)
    scores = shown_scores(model, [replace(clip, visible=visible)], every=1)
    assert scores["shown_cm"] == pytest.approx(50 * (far[:, wrist].mean() + far[0, knee]), rel=1e-4)
    assert np.isnan(shown_scores(model, [replace(clip, visible=np.zeros_like(visible))])["shown_cm"])


def test_single_frames_of_held_out_people_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = replace(rendered(), subject="one")
    monkeypatch.setattr("egopose.train.rendered_files.load_rendered", lambda folder: [shown])
    settings = config(tmp_path, single=("somewhere",))
    assert single_clips(settings, [replace(shown, subject="other")]) == [shown]
    with pytest.raises(EgoposeError, match="show one, who are trained on"):
        single_clips(settings, [shown])
    assert single_clips(config(tmp_path), [shown]) == []


def test_a_mirrored_clip_is_one_of_the_mirrored_world(tmp_path: Path) -> None:
    frames = source(tmp_path)
    plain, other = (frames.frame(i, 3, np.random.default_rng(0)) for i in range(2))
    np.testing.assert_array_equal(frames.rendered.clips[1].images[3], frames.rendered.clips[0].images[3][:, ::-1])
    name = BODY17_HANDS.joints.index
    np.testing.assert_allclose(
        other["xyz"][name("left_elbow")], plain["xyz"][name("right_elbow")] * np.array([-1, 1, 1]), atol=1e-6
    )
    np.testing.assert_allclose(other["up"], plain["up"] * np.array([-1, 1, 1]), atol=1e-6)
    assert (other["visible"][RIGHT] == plain["visible"][LEFT]).all()
    # the camera is symmetric here, so the mirrored rays are its own
    np.testing.assert_allclose(other["image_rays"], plain["image_rays"], atol=1e-5)
    # what the finder should say of it is the mirrored hand, on the other side
    logits = other["heat"].copy()
    logits[:, 0] = 12 * logits[:, 0] - 6
    ((missing, _),), ((found, place),) = heat_peaks(logits, CAMERA, frames.rendered.reader(1).fit)
    assert missing < 0.1
    assert found > 0.9
    np.testing.assert_allclose(place, plain["xyz"][LEFT].mean(axis=0) * [-1, 1, 1], atol=1e-4)
    twice = mirrored_clip(frames.rendered.clips[1])
    np.testing.assert_allclose(twice.joints, frames.rendered.clips[0].joints)
    np.testing.assert_allclose(twice.T_world_camera, frames.rendered.clips[0].T_world_camera)
    np.testing.assert_array_equal(twice.images[3], frames.rendered.clips[0].images[3])


class _Says(torch.nn.Module):
    """A network whose finder says what it is told."""

    config = TINY

    def __init__(self, heat: np.ndarray) -> None:
        super().__init__()
        self.heat = torch.nn.Parameter(torch.from_numpy(heat), requires_grad=False)

    def see(self, image: torch.Tensor, rays: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, self.heat.expand(image.shape[0], -1, -1, -1, -1)


def test_what_goes_wrong_is_counted_by_kind(tmp_path: Path) -> None:
    clip = rendered()
    heat = source(tmp_path).frame(0, 0, np.random.default_rng(0))["heat"]
    heat[:, 0] = 12 * heat[:, 0] - 6

    def scores(said: np.ndarray) -> dict[str, float]:
        model: EgoPoseNet = _Says(said)  # type: ignore[assignment]
        return finder_scores(model, [clip], every=1)

    right = {"missed": 0.0, "elsewhere": 0.0, "other_hand": 0.0, "false": 0.0, "score": 0.0}
    assert scores(heat) == right
    nothing = np.full_like(heat, -6)
    assert scores(nothing) == {**right, "missed": 100.0, "score": 50.0}
    # the left hand taken for the right one: one is missed, the other is not in the image
    assert scores(heat[::-1].copy()) == {**right, "missed": 100.0, "false": 100.0, "score": 100.0}
    far = nothing.copy()
    far[0, 0, -1, -1], far[0, 1:] = 6, 0
    assert scores(far) == {**right, "elsewhere": 100.0, "score": 50.0}
    assert heat.shape == (2, HEAT_CHANNELS, 4, 4)


def test_hands_without_labels_are_neither_counted_nor_taught(tmp_path: Path) -> None:
    clip = rendered()
    joints, visible = clip.joints.copy(), clip.visible.copy()
    joints[:, [LEFT[0], RIGHT[0]]] = np.nan
    visible[:, [LEFT[0], RIGHT[0]]] = 0
    heat = source(tmp_path).frame(0, 0, np.random.default_rng(0))["heat"]
    heat[:, 0] = 12 * heat[:, 0] - 6
    model: EgoPoseNet = _Says(heat)  # type: ignore[assignment]
    # one joint less moves the middle of the hand a little
    assert finder_scores(model, [replace(clip, joints=joints, visible=visible)], every=1)["score"] == 0
    joints[:, 17:], visible[:, 17:] = np.nan, 0
    blind = replace(clip, joints=joints, visible=visible)
    assert finder_scores(model, [blind], every=1)["score"] == 0
    batch = FrameSource([blind], config(tmp_path, stage="frames")).batch(0)
    assert batch.targets.heat_known is not None
    assert not batch.targets.heat_known.any()


def test_the_stage_teaches_the_finder(tmp_path: Path) -> None:
    run = config(
        tmp_path, stage="frames", steps=60, lr=4e-3, warmup=5, rendered_batch=3, rendered_window=4,
        train_only=["image_encoder", "heat"],
    )  # fmt: skip
    trainer = Trainer(run, source(tmp_path))
    frozen = trainer.model.queries.clone()
    context = trainer.model.heat_context.weight.clone()
    before = finder_scores(build(TINY, 0), [rendered()])["score"]
    first = float(trainer.train_step()["heat"])
    trainer.run()
    assert float(trainer.train_step()["heat"]) < 0.5 * first
    after = finder_scores(trainer.model, [rendered()])
    assert after["missed"] < 100
    assert after["score"] < before
    assert not torch.equal(context, trainer.model.heat_context.weight)
    assert torch.equal(frozen, trainer.model.queries)
