"""Windows of rendered clips: targets of the hand finder, crops, masks, and a step that trains all heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from egopose import rigid
from egopose.errors import EgoposeError
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
    probability, place = heat_peaks(logits, CAMERA, reader.fit)[0]
    assert probability > 0.9
    np.testing.assert_allclose(place, centres[0], atol=1e-5)
    # a hand behind the camera, or far outside the image, has no cell
    assert (heat_target(reader, np.array([[0, 0, -1.0], [9, 0, 0.1]]), np.array([True, True]), 4) == 0).all()


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
    assert batch.frames.hand_known[:, 0].float().mean() > 0.5
    torch.testing.assert_close(batch.frames.image, source.batch(7).frames.image, rtol=0, atol=0)
    # a crop that is said to show the hand is aimed within the hand's radius of it
    assert batch.targets.crop is not None
    assert (batch.targets.crop[..., 0] == 1).any()
    assert not (batch.targets.crop[..., 1] == 1).any()
    shown = (batch.targets.crop[..., 0] == 1).flatten()
    axis = batch.frames.hand_axes[:, 0, :, 2][shown]  # type: ignore[index]
    centre = batch.targets.xyz.flatten(0, 1)[:, LEFT].mean(1)[shown]
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
    source = RenderedSource([rendered()], c)
    batch = source.batch(0)
    output, encoded = model(batch.frames, batch.rotation, batch.first, batch.rest)
    loss, terms = total_loss(output, encoded, batch.targets, LossConfig(), 10**6)
    loss.backward()
    for name in ("heat", "crop", "frame_hand", "hand", "ray", "visible"):
        assert terms[name] > 0, name
    quiet = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    for part in ("image_encoder", "hand_encoder", "heat", "decoder", "hand_head", "temporal", "ray_in", "queries"):
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
