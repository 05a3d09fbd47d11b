"""The network: shapes, absence, streaming against the whole clip, frames of reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from egopose.errors import EgoposeError
from egopose.model.clock import FULL, attention_masks, horizon, split_lookahead, time_rotation
from egopose.model.config import ModelConfig
from egopose.model.engine import TorchEngine
from egopose.model.headmotion import (
    HEAD_FEATURES,
    canonical_from_world,
    canonical_rotation,
    head_features,
)
from egopose.model.heads import ShownBody, canonical_axes
from egopose.model.network import BodyReader, DecoderLayer, build
from egopose.model.numeric import concatenate
from egopose.model.records import FrameBatch
from egopose.model.session import StepInput, StreamSession, encode_clip, encode_sensors, run_whole
from egopose.model.temporal import rotate
from egopose.model.track import FrameReader
from tests.nets import CAMERA, TINY, pictures, shake, walk


@pytest.fixture(scope="module")
def engine() -> TorchEngine:
    torch.set_num_threads(1)
    return TorchEngine(shake(build(TINY, 3)))


def test_canonical_frame_follows_the_heading_and_not_the_pitch() -> None:
    base = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)
    for yaw in (0.0, 1.0, -2.5):
        for pitch in (-1.2, 0.0, 0.8, 1.5):
            T = np.eye(4)[None].copy()
            T[0, :3, :3] = Rotation.from_euler("ZY", [yaw, pitch]).as_matrix() @ base
            T[0, :3, 3] = [1, 2, 1.7]
            C = canonical_from_world(T, floor_z=0.2)[0]
            np.testing.assert_allclose(C[:3, :3], Rotation.from_euler("Z", yaw).as_matrix(), atol=1e-12)
            np.testing.assert_allclose(C[:3, 3], [1, 2, 0.2])
            R = canonical_rotation(T[0, 2, :3])
            np.testing.assert_allclose(R, C[:3, :3].T @ T[0, :3, :3], atol=1e-12)
            up = torch.tensor(T[0, 2, :3])
            np.testing.assert_allclose(canonical_axes(up).numpy(), R, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.floats(-3, 3), st.floats(-50, 50), st.floats(-50, 50), st.integers(0, 100))
def test_head_features_do_not_depend_on_place_and_heading(yaw: float, x: float, y: float, seed: int) -> None:
    t, T = walk(40, seed=seed)
    move = np.eye(4)
    move[:3, :3] = Rotation.from_euler("Z", yaw).as_matrix()
    move[:2, 3] = x, y
    a, b = head_features(t, T), head_features(t, move @ T)
    np.testing.assert_allclose(a.features, b.features, atol=1e-5)
    assert a.features.shape == (40, HEAD_FEATURES)


def test_head_features_respect_the_horizon() -> None:
    t, T = walk(60)
    for k in (0, 3):
        whole = head_features(t, T, horizon_s=t[np.minimum(np.arange(60) + k, 59)])
        for i in (10, 30):
            part = head_features(
                t[: i + k + 1], T[: i + k + 1], horizon_s=np.full(i + k + 1, t[i + k]), steps=np.array([i])
            )
            np.testing.assert_array_equal(whole.features[i], part.features[0])
    future = head_features(t, T).features
    assert np.abs(future - head_features(t, T, horizon_s=t).features).max() > 0.01


def test_head_features_with_missing_poses_and_floor() -> None:
    t, T = walk(30)
    T[5:8] = np.nan
    out = head_features(t, T, floor_z=None)
    assert not out.known[5:8].any()
    assert out.known.sum() == 27
    assert np.isfinite(out.features).all()
    assert (out.features[5:8] == 0).all()
    assert (out.features[:, :2] == 0).all()


def test_rotation_depends_on_time_differences_only() -> None:
    rng = np.random.default_rng(0)
    q, k = (torch.tensor(rng.standard_normal((1, 1, 1, 48)), dtype=torch.float32) for _ in range(2))
    scores = []
    for shift in (0.0, 3.0, 4000.0):
        rot = torch.from_numpy(time_rotation(np.array([shift + 0.1, shift + 0.75]), 48))
        scores.append(float((rotate(q, rot[None, :1]) * rotate(k, rot[None, 1:])).sum()))
    np.testing.assert_allclose(scores, scores[0], atol=1e-4)
    assert abs(scores[0] - float((q * k).sum())) > 1e-3


def test_masks() -> None:
    t = np.array([0.0, 0.1, 0.2, 0.9, 1.3])
    first, rest = attention_masks(t, ring=3, window_s=1.0, lookahead=1)
    assert first[0].tolist() == [True, True, False, False, False]
    assert rest[2].tolist() == [True, True, True, False, False]
    # the ring of three, seen from a step that looks one ahead, reaches one step back
    assert first[2].tolist() == [False, True, True, True, False]
    # step 4 is 1.2 s after step 1
    assert rest[4].tolist() == [False, False, False, True, True]
    full, same = attention_masks(t, ring=3, window_s=1.0, lookahead=None)
    assert full is same
    assert (full == full.T).all()


@pytest.mark.parametrize("lookahead", [0, 1, 4, 5])
@pytest.mark.parametrize("images", [False, True])
def test_stream_equals_the_whole_clip(engine: TorchEngine, lookahead: int, images: bool) -> None:
    n = 30
    t, T = walk(n, seed=3)
    # dropped frames and a stretch without poses, as live input has them
    keep = np.setdiff1d(np.arange(n), [7, 8, 19])
    t, T = t[keep], T[keep]
    poses = T.copy()
    poses[10:12] = np.nan
    frames = pictures(len(t)) if images else [None] * len(t)
    steps = [
        StepInput(float(t[i]), frames[i], poses[i] if np.isfinite(poses[i]).all() else None) for i in range(len(t))
    ]
    session = StreamSession(engine, reader=FrameReader(CAMERA, TINY) if images else None, lookahead=lookahead)
    done = [f for s in steps for f in session.push(s)]
    assert len(done) == max(0, len(t) - lookahead)
    done += session.flush()
    assert [f.number for f in done] == list(range(len(t)))
    ahead = horizon(t, lookahead)
    if images:
        encoded = concatenate(
            list(
                encode_clip(
                    engine, FrameReader(CAMERA, TINY), steps, floor_z=0.0, poses=poses, times_s=t, horizon_s=ahead
                )
            )
        )
        assert encoded.hand_known is not None
        assert encoded.hand_known.any()
    else:
        encoded = encode_sensors(engine, t, poses, None, floor_z=0.0, horizon_s=ahead)
    whole = run_whole(engine, t, encoded, lookahead=split_lookahead(lookahead)[1])
    for name in whole._fields:
        streamed = np.concatenate([getattr(f.said, name) for f in done])
        np.testing.assert_allclose(streamed, getattr(whole, name), atol=1e-5, err_msg=name)


def test_modes_differ_and_causal_never_sees_the_future(engine: TorchEngine) -> None:
    t, T = walk(40, seed=5)
    changed = T.copy()
    changed[25:, :3, 3] += [0.3, -0.2, 0.1]

    def run(poses: np.ndarray, k: int) -> np.ndarray:
        encoded = encode_sensors(engine, t, poses, None, floor_z=0.0, horizon_s=horizon(t, k))
        return run_whole(engine, t, encoded, lookahead=None if k == FULL else split_lookahead(k)[1]).xyz

    for k in (0, 3):
        a, b = run(T, k), run(changed, k)
        np.testing.assert_array_equal(a[: 25 - k], b[: 25 - k])
        assert np.abs(a[25 - k :] - b[25 - k :]).max() > 1e-4
    assert np.abs(run(T, FULL)[:25] - run(changed, FULL)[:25]).max() > 1e-4


def test_absent_modalities_do_not_leak(engine: TorchEngine) -> None:
    model = engine.model
    rng = np.random.default_rng(1)

    def batch(image_known: bool, hand_known: bool, fill: float) -> FrameBatch:
        g, c = model.image_cells, model.hand_cells
        f = lambda *s: torch.tensor(rng.standard_normal(s), dtype=torch.float32)  # noqa: E731
        return FrameBatch(
            head=torch.full((1, HEAD_FEATURES), 0.1), head_known=torch.tensor([True]),
            image=f(1, 3, 64, 64) * fill, image_rays=f(1, g, g, 4), image_known=torch.tensor([image_known]),
            hands=f(1, 2, 3, 32, 32) * fill, hand_rays=f(1, 2, c, c, 4), hand_known=torch.full((1, 2), hand_known),
            hand_axes=torch.eye(3).expand(1, 2, 3, 3), hand_focal=torch.ones(1, 2), hand_distance=torch.ones(1, 2),
        )  # fmt: skip

    with torch.no_grad():
        a, b = model.encode(batch(False, False, 1.0)), model.encode(batch(False, False, 5.0))
        only_head = model.encode(FrameBatch(batch(False, False, 1.0).head, torch.tensor([True])))
        seen = model.encode(batch(True, True, 1.0))
    torch.testing.assert_close(a.token, b.token)
    torch.testing.assert_close(a.token, only_head.token)
    assert (seen.token - a.token).abs().max() > 1e-3


def test_what_an_image_shows_of_the_body_counts_by_inverse_variance() -> None:
    torch.manual_seed(0)
    head = ShownBody(8)
    query, body, scale = torch.randn(3, 8), torch.randn(3, 17, 3), torch.full((3, 17), math.log(0.1))
    known = torch.tensor([True, True, False])

    def said() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return head(query, known, body, scale)

    # a fresh one leaves the body nearly as it is, and without an image just as it is
    joints, _, alone, _ = said()
    assert (joints - body).abs().max() < 0.05 * (alone - body).abs().max()
    for sure_m, share in ((0.1, 0.5), (0.05, 0.8), (1e-4, 1.0), (1e3, 0.0)):
        with torch.no_grad():
            head.doubt[2].weight.zero_()
            head.doubt[2].bias.fill_(math.log(sure_m))
        joints, both, alone, doubt = said()
        torch.testing.assert_close(joints[:2], (body + share * (alone - body))[:2], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(both[:2], (scale + share * (doubt - scale))[:2], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(joints[2], body[2], rtol=0, atol=0)
        torch.testing.assert_close(both[2], scale[2], rtol=0, atol=0)
    # a joint whose doubts are not to be trusted has its own say
    with torch.no_grad():
        head.bias[5] = 100.0
    joints, _, alone, _ = said()
    torch.testing.assert_close(joints[:2, 5], alone[:2, 5])
    torch.testing.assert_close(joints[:2, 6], body[:2, 6], atol=1e-5, rtol=1e-5)


def test_the_body_is_read_off_the_decoders_own_keys_and_values() -> None:
    torch.manual_seed(0)
    reader, layer = BodyReader(8, 2), DecoderLayer(8, 2)
    x, tokens = torch.randn(3, 8), torch.randn(3, 5, 8)
    with torch.no_grad():
        keys, values = layer.keys_values(tokens)
        said = reader(x, keys, values)
        # attention written out (Vaswani et al., 2017), head by head
        k, v = layer.key_value(tokens).chunk(2, dim=-1)
        q, seen = reader.query(x), torch.zeros(3, 8)
        for part in (slice(0, 4), slice(4, 8)):
            share = torch.softmax((q[:, None, part] * k[..., part]).sum(-1) / 2.0, dim=-1)
            seen[:, part] = (share[..., None] * v[..., part]).sum(1)
        torch.testing.assert_close(said, reader.norm(x + reader.out(seen)))


def test_without_images_nothing_is_shown(engine: TorchEngine) -> None:
    t, T = walk(6)
    blind = encode_sensors(engine, t, T, None, floor_z=0.0, horizon_s=None)
    assert blind.body_query is None
    steps = [StepInput(float(t[i]), pictures(6)[i] if i != 2 else None, T[i]) for i in range(6)]
    reader = FrameReader(CAMERA, TINY)
    seen = concatenate(list(encode_clip(engine, reader, steps, floor_z=0.0, poses=T, times_s=t, horizon_s=None)))
    assert seen.body_query is not None
    assert seen.image_known is not None
    assert seen.image_known.tolist() == [True, True, False, True, True, True]
    # all that is said of the body of a frame without an image comes through time, whatever its query holds
    other = seen._replace(body_query=seen.body_query + np.float32(10))
    a, b = (run_whole(engine, t, one, lookahead=None) for one in (seen, other))
    np.testing.assert_array_equal(a.xyz[2, :17], b.xyz[2, :17])
    assert (np.abs(a.xyz - b.xyz)[[0, 1, 3, 4, 5], :17].max(axis=(1, 2)) > 1e-5).all()


def test_joints_of_the_whole_skeleton_are_consistent(engine: TorchEngine) -> None:
    t, T = walk(10)
    encoded = encode_sensors(engine, t, T, None, floor_z=0.0, horizon_s=None)
    said = run_whole(engine, t, encoded, lookahead=None)
    from egopose.skeleton import BODY17_HANDS

    for side in ("left", "right"):
        a, b = BODY17_HANDS.index(f"{side}_wrist"), BODY17_HANDS.index(f"{side}_hand_wrist")
        np.testing.assert_allclose(said.xyz[:, a], said.xyz[:, b], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(said.up, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(said.up, T[:, 2, :3], atol=1e-6)
    assert (said.bones > 0).all()


def test_bad_streams_are_refused(engine: TorchEngine) -> None:
    session = StreamSession(engine)
    session.push(StepInput(0.0, None, np.eye(4)))
    with pytest.raises(EgoposeError, match="not after the one before"):
        session.push(StepInput(0.0, None, np.eye(4)))
    with pytest.raises(EgoposeError, match="NaN"):
        session.push(StepInput(0.1, None, np.full((4, 4), np.nan)))
    with pytest.raises(EgoposeError, match="lookahead"):
        StreamSession(engine, lookahead=TINY.ring)


def test_sizes_build_and_seeds_repeat() -> None:
    a, b, c = build(TINY, 1), build(TINY, 1), build(TINY, 2)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    assert any(not torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters()))
    with pytest.raises(EgoposeError, match="multiple of the stride"):
        ModelConfig(image_px=100)
    with pytest.raises(EgoposeError, match="heads"):
        ModelConfig(dim=190)
