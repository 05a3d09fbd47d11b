"""Windows of rendered clips: targets of the hand finder, crops, masks, and a step that trains all heads."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from egopose import rigid
from egopose.camera import Camera
from egopose.errors import EgoposeError
from egopose.lens import mirrored as mirrored_lens
from egopose.model.losses import LossConfig, total_loss
from egopose.model.network import build
from egopose.model.track import FrameReader, heat_peaks
from egopose.skeleton import BODY17_HANDS
from egopose.train.motion import MotionSource
from egopose.train.rendered import (
    MixedSource,
    RenderedClip,
    RenderedSource,
    hand_centres,
    hands_shown,
    heat_target,
    mirrored_clip,
)
from tests.nets import CAMERA, TINY, pictures, walk
from tests.test_train_loop import clips, config

LEFT = [i for i, j in enumerate(BODY17_HANDS.joints) if j.startswith("left_hand_")]
RIGHT = [i for i, j in enumerate(BODY17_HANDS.joints) if j.startswith("right_hand_")]


def rendered(n: int = 20) -> RenderedClip:
    """Random pictures with a left hand in view and a right hand behind the camera."""
    t, T = walk(n)
    rng = np.random.default_rng(0)
    joints = rng.uniform(-0.3, 0.3, (n, 59, 3))
    joints[:, LEFT] = np.array([-0.05, 0.05, 0.4]) + rng.uniform(-0.05, 0.05, (1, 21, 3))
    joints[:, RIGHT] = np.array([0.1, 0.05, -0.4]) + rng.uniform(-0.05, 0.05, (1, 21, 3))
    visible = np.zeros((n, 59), dtype=np.int8)
    visible[:, LEFT] = 1
    return RenderedClip("r", "s", CAMERA, t, T, np.stack(pictures(n)), rigid.transform_points(T, joints), visible)


def lens(model: str) -> Camera:
    """A lens of which every coefficient counts."""
    rng = np.random.default_rng(3)
    small = {"pinhole": 0, "kannala_brandt": 4, "brown_conrady": 14, "fisheye624": 12}[model]
    return Camera(model, (200, 160), np.concatenate([[110, 105, 93, 84], 0.02 * rng.uniform(-1, 1, small)]))


@pytest.mark.parametrize("model", ["pinhole", "kannala_brandt", "brown_conrady", "fisheye624"])
def test_a_mirrored_lens_sees_the_mirrored_world(model: str) -> None:
    camera = lens(model)
    points = np.random.default_rng(0).uniform([-0.5, -0.4, 0.8], [0.5, 0.4, 2.0], (200, 3))
    uv = camera.project(points, frame="camera")
    other = mirrored_lens(camera).project(points * [-1, 1, 1], frame="camera")
    assert np.isfinite(uv).all()
    np.testing.assert_allclose(other, np.stack([199 - uv[:, 0], uv[:, 1]], axis=1), atol=1e-9)


def test_joints_of_a_mirrored_clip_lie_on_mirrored_pixels() -> None:
    clip = replace(rendered(), camera=lens("fisheye624"))
    other = mirrored_clip(clip)

    def pixels(some: RenderedClip) -> np.ndarray:
        camera = rigid.transform_points(rigid.invert(some.T_world_camera), some.joints)
        return some.camera.project(camera, frame="camera")

    flipped = pixels(clip)[:, BODY17_HANDS.mirror_index]
    flipped[..., 0] = 199 - flipped[..., 0]
    assert np.isfinite(flipped[:, RIGHT]).all()
    np.testing.assert_allclose(pixels(other), flipped, atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(other.T_world_camera[:, :3, :3]), 1.0)
    assert (other.joints[..., 2] == clip.joints[:, BODY17_HANDS.mirror_index, 2]).all()


def test_hands_of_a_frame() -> None:
    clip = rendered()
    camera = rigid.transform_points(rigid.invert(clip.T_world_camera), clip.joints)
    centres = hand_centres(camera)
    assert centres.shape == (20, 2, 3)
    np.testing.assert_allclose(centres[:, 0], camera[:, LEFT].mean(axis=1))
    assert hands_shown(clip.visible).tolist() == [[True, False]] * 20


def test_the_target_of_the_hand_finder_is_read_back_as_the_hand() -> None:
    clip = rendered()
    centres = hand_centres(rigid.transform_points(rigid.invert(clip.T_world_camera), clip.joints))[0]
    reader = FrameReader(CAMERA, TINY)
    target = heat_target(reader, centres, np.array([True, False]), 4)
    assert target[0, 0].max() == 1
    assert (target[1] == 0).all()
    logits = target.copy()
    logits[:, 0] = 12 * target[:, 0] - 6
    ((probability, place),) = heat_peaks(logits, CAMERA, reader.fit)[0]
    assert probability > 0.9
    np.testing.assert_allclose(place, centres[0], atol=1e-5)
    # a hand behind the camera, or far outside the image, has no cell
    assert (heat_target(reader, np.array([[0, 0, -1.0], [9, 0, 0.1]]), np.array([True, True]), 4) == 0).all()


def test_crops_are_aimed_at_hands_and_now_and_then_at_what_is_none() -> None:
    source = RenderedSource([rendered()], config(Path("unused"), hand_drop=0.2))
    rng, reader = np.random.default_rng(0), source.reader(0)
    hand, limb = np.array([-0.05, 0.05, 0.4]), np.array([[0.15, 0.1, 0.5]])
    nowhere = np.full(3, np.nan)

    def places(shown: bool, limbs: np.ndarray, centre: np.ndarray = hand) -> list[np.ndarray | None]:
        return [source._place(centre, shown, None, limbs, np.zeros((0, 3)), rng, reader) for _ in range(600)]

    def share(some: list[np.ndarray | None], where: np.ndarray) -> float:
        return float(np.mean([p is not None and np.linalg.norm(p - where) < 0.15 for p in some]))

    seen = places(True, limb)
    assert share(seen, hand) == pytest.approx(0.8 * 0.96, abs=0.05)
    assert np.mean([p is None for p in seen]) == pytest.approx(0.22, abs=0.05)
    hidden = places(False, limb)
    assert share(hidden, limb[0]) == pytest.approx(0.8 * 0.5 * 0.6, abs=0.07)
    # without a limb in view any direction of the image will do
    anywhere = [p for p in places(False, limb[:0]) if p is not None]
    assert np.ptp([p[0] / p[2] for p in anywhere]) > 0.8
    assert all(CAMERA.in_image(CAMERA.project(p[None], frame="camera"))[0] for p in anywhere)
    assert all(p is None for p in places(True, limb, nowhere))


def test_clips_that_show_limbs_are_drawn_more_often() -> None:
    plain = rendered()
    visible = plain.visible.copy()
    visible[:, BODY17_HANDS.index("left_knee")] = 1
    half = visible.copy()
    half[::2] = plain.visible[::2]
    source = RenderedSource(
        [plain, replace(plain, visible=visible), replace(plain, visible=half)], config(Path("unused"))
    )
    np.testing.assert_allclose(source.weights[1:3] / source.weights[0], [5.0, 3.0])
    # mirrored ones like their own
    np.testing.assert_allclose(source.weights[3:], source.weights[:3])
    assert source.weights.sum() == pytest.approx(1)
    alike = RenderedSource([plain, replace(plain, visible=visible)], config(Path("unused"), limbs_weight=0.0))
    np.testing.assert_allclose(alike.weights, 0.25)
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(EgoposeError, match=r"train\.limbs_weight is .*expected 0 \(all clips alike\) or more"):
            config(Path("unused"), limbs_weight=wrong)


def test_windows_carry_everything_and_repeat(tmp_path: Path) -> None:
    c = config(tmp_path, rendered_batch=3, rendered_window=5, hand_drop=0.0, image_drop=0.0, rendered_head_drop=0.0)
    source = RenderedSource([rendered()], c)
    batch = source.batch(7)
    assert batch.frames.image is not None
    assert batch.frames.image.shape == (15, 3, 64, 64)
    assert batch.frames.hands is not None
    assert batch.frames.hands.shape == (15, 2, 3, 32, 32)
    assert batch.frames.head_known.all()
    assert batch.frames.hand_known is not None
    # the left hand is before the camera, or the right one where the clip is mirrored
    assert batch.frames.hand_known.any(dim=1).float().mean() > 0.5
    torch.testing.assert_close(batch.frames.image, source.batch(7).frames.image, rtol=0, atol=0)
    # a crop that is said to show the hand is aimed within the hand's radius of it
    assert batch.targets.crop is not None
    assert (batch.targets.crop == 1).any()
    assert not (batch.targets.crop == 1).all(dim=-1).any()
    for side, joints in enumerate((LEFT, RIGHT)):
        shown = (batch.targets.crop[..., side] == 1).flatten()
        axis = batch.frames.hand_axes[:, side, :, 2][shown]  # type: ignore[index]
        centre = batch.targets.xyz.flatten(0, 1)[:, joints].mean(1)[shown]
        off = torch.linalg.cross(axis, centre).norm(dim=-1)
        assert (off < 0.13).all()
    none = RenderedSource([rendered()], config(tmp_path, hand_drop=1.0, rendered_head_drop=1.0)).batch(0)
    assert not none.frames.hand_known.any()  # type: ignore[union-attr]
    assert not none.frames.head_known.any()
    with pytest.raises(EgoposeError, match="no rendered clip"):
        RenderedSource([], c)


def test_a_step_reaches_every_part(tmp_path: Path) -> None:
    c = config(tmp_path, rendered_batch=2, rendered_window=4, hand_drop=0.0, image_drop=0.0, rendered_head_drop=0.5)
    model = build(TINY, 0)
    with torch.no_grad():
        # the residual paths start at zero; open them, as one step of training does
        for layer in (model.fuse_body, model.fuse_hands):
            layer.weight.normal_(std=0.1)
    clip = rendered()
    clip.visible[:, BODY17_HANDS.index("left_elbow")] = 1
    source = RenderedSource([clip], c)
    batch = source.batch(0)
    output, encoded = model(batch.frames, batch.rotation, batch.first, batch.rest)
    loss, terms = total_loss(output, encoded, batch.targets, LossConfig(frame_body=1.0), 10**6)
    loss.backward()
    # a likelihood may have either sign
    assert torch.isfinite(terms["frame_body"])
    assert terms["frame_body"] != 0
    for name in ("heat", "crop", "frame_hand", "hand", "ray", "visible"):
        assert terms[name] > 0, name
    quiet = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    for part in (
        "image_encoder", "hand_encoder", "heat", "decoder", "hand_head", "temporal", "ray_in", "queries", "body_reader",
        "heads.shown.joints", "heads.shown.doubt", "heads.shown.slope", "heads.shown.bias",
    ):  # fmt: skip
        assert any(
            p.grad is not None and p.grad.abs().sum() > 0 for n, p in model.named_parameters() if n.startswith(part)
        ), (part, quiet)


def test_mixed_steps_alternate(tmp_path: Path) -> None:
    c = config(tmp_path, rendered_batch=2, rendered_window=4)
    mixed = MixedSource(RenderedSource([rendered()], c), (MotionSource(clips(), c), 3), (None, 2))
    assert [mixed.batch(i).frames.image is None for i in range(6)] == [True, False, False, True, False, False]


@pytest.mark.parametrize(("every", "turns"), [(1, 12), (2, 6), (3, 4), (6, 2)])
def test_a_third_source_has_its_turns_however_often(every: int, turns: int) -> None:
    class Says:
        def __init__(self, name: str) -> None:
            self.name = name

        def batch(self, step: int) -> str:
            return self.name

    mixed = MixedSource(Says("other"), (Says("a"), 100), (Says("b"), 100), (Says("third"), every))
    said = [mixed.batch(step) for step in range(6, 18)]
    assert said.count("third") == turns  # type: ignore[comparison-overlap]
