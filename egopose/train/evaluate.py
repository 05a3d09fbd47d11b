"""Scores on held-out subjects, through the package's own evaluator; and the simple predictors to beat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from egopose.clip import Clip
from egopose.errors import EgoposeError
from egopose.metrics import mpjpe, mpjve
from egopose.model.engine import TorchEngine
from egopose.model.headmotion import NOMINAL_HEIGHT_M, canonical_from_world
from egopose.model.network import EgoPoseNet
from egopose.pose import PoseSequence
from egopose.predict import Mode, Predictor
from egopose.skeleton import BODY12, BODY17, BODY17_HANDS
from egopose.train.windows import MotionClip
from egopose.trajectory import Trajectory

Array = NDArray[np.float64]
Predict = Callable[[MotionClip], Array]
"""World joints (T, 17, 3) of a clip's head poses."""

BODY = BODY17_HANDS.indices(BODY17.joints)
INNER = BODY17.indices(BODY12.joints)


def check_subjects(train: Sequence[MotionClip], held_out: Sequence[MotionClip]) -> None:
    """Refuse held-out clips of people that are trained on.

    Raises:
        EgoposeError: A subject is on both sides.
    """
    both = {c.subject for c in train} & {c.subject for c in held_out}
    if both:
        raise EgoposeError(f"held-out clips show {', '.join(sorted(both))}, who are trained on; split by subject")


def score(predict: Predict, clips: Sequence[MotionClip]) -> dict[str, float]:
    """Errors over all frames of some clips.

    Returns:
        ``body12_cm`` and ``body17_cm`` (mean over joints and frames, no alignment), ``mpjve12_cm_s``, ``clips12_cm``
        (mean over clips of the clip's mean).
    """
    errors: dict[str, list[Array]] = {"body12_cm": [], "body17_cm": [], "mpjve12_cm_s": []}
    for clip in clips:
        said, true = predict(clip), clip.joints[:, BODY]
        fps = (len(clip) - 1) / clip.seconds
        errors["body12_cm"].append(100 * np.asarray(mpjpe(said[:, INNER], true[:, INNER])))
        errors["body17_cm"].append(100 * np.asarray(mpjpe(said, true)))
        errors["mpjve12_cm_s"].append(100 * np.asarray(mpjve(said[:, INNER], true[:, INNER], fps=fps)))
    out = {name: float(np.nanmean(np.concatenate(values))) for name, values in errors.items()}
    out["clips12_cm"] = float(np.mean([np.nanmean(e) for e in errors["body12_cm"]]))
    return out


def network_sequences(
    model: EgoPoseNet, clips: Sequence[MotionClip], mode: Mode = "offline"
) -> Iterator[tuple[MotionClip, PoseSequence]]:
    """Each clip with what the network says from its head poses alone, in the world."""
    predictor = Predictor(TorchEngine(model, next(model.parameters()).device), notes={"trained": ["body"]})
    for clip in clips:
        source = Clip(trajectory=Trajectory(clip.times_s, clip.T_world_camera, max_gap_s=1e9))
        yield clip, predictor.predict(source, mode=mode, floor_z=0.0)


def network(model: EgoPoseNet, mode: Mode = "offline") -> Predict:
    """The network on head poses alone."""

    def predict(clip: MotionClip) -> Array:
        ((_, sequence),) = network_sequences(model, [clip], mode)
        return sequence.xyz[:, BODY].astype(np.float64)

    return predict


def held_out_scores(model: EgoPoseNet, clips: Sequence[MotionClip]) -> dict[str, float]:
    """Numbers for the training log; ``score`` is the offline body-12 error over all frames."""
    offline, causal = score(network(model), clips), score(network(model, "causal"), clips)
    out = {"score": offline["body12_cm"], "causal_body12_cm": causal["body12_cm"], **offline}
    for tier in sorted({clip.tier for clip in clips}):
        some = [clip for clip in clips if clip.tier == tier]
        out[f"{tier}_body12_cm"] = score(network(model), some)["body12_cm"]
    return out


def to_canonical(clip: MotionClip) -> Array:
    """Body joints (T, 17, 3) of a clip in its canonical frames."""
    frames = canonical_from_world(clip.T_world_camera)
    return np.einsum("tji,tkj->tki", frames[:, :3, :3], clip.joints[:, BODY] - frames[:, None, :3, 3])


def from_canonical(clip: MotionClip, canonical: Array) -> Array:
    """World joints of canonical ones."""
    frames = canonical_from_world(clip.T_world_camera)
    return np.einsum("tij,tkj->tki", frames[:, :3, :3], canonical) + frames[:, None, :3, 3]


def mean_pose(train: Sequence[MotionClip]) -> Predict:
    """The mean pose below the head, turned with it; it rises and sinks with the head."""
    below = np.concatenate([to_canonical(c) - _camera_height(c) for c in train]).mean(axis=0)
    return lambda clip: from_canonical(clip, below + _camera_height(clip))


def _camera_height(clip: MotionClip) -> Array:
    out = np.zeros((len(clip), 1, 3))
    out[:, 0, 2] = clip.T_world_camera[:, 2, 3]
    return out


WINDOW_S = 0.5
"""Half of the one-second window that the simple predictors see, centred on the step."""


def window_features(clip: MotionClip, *, samples: int = 11) -> Array:
    """Head poses of a one-second window in the canonical frame of its centre: (T, samples * 9 + 1).

    Positions, forward axes and right axes at evenly spaced times, the ends held outside the clip, and the height.
    """
    times = clip.times_s[:, None] + np.linspace(-WINDOW_S, WINDOW_S, samples)
    times = np.clip(times, clip.times_s[0], clip.times_s[-1])
    right = np.clip(np.searchsorted(clip.times_s, times), 1, len(clip) - 1)
    t0, t1 = clip.times_s[right - 1], clip.times_s[right]
    alpha = ((times - t0) / (t1 - t0))[..., None]
    T = clip.T_world_camera
    rows = np.concatenate([T[:, :3, 3], T[:, :3, 2], T[:, :3, 0]], axis=1)
    values = (1 - alpha) * rows[right - 1] + alpha * rows[right]
    values[..., :3] -= T[:, None, :3, 3]
    R = canonical_from_world(T)[:, :3, :3]
    local = np.concatenate([np.einsum("tji,tlj->tli", R, values[..., k : k + 3]) for k in (0, 3, 6)], axis=-1)
    height = T[:, 2, 3:4] - NOMINAL_HEIGHT_M
    return np.concatenate([local.reshape(len(clip), -1), height], axis=1)


def ridge(train: Sequence[MotionClip], strength: float = 100.0) -> Predict:
    """Linear regression from the one-second window to the canonical pose."""
    x = np.concatenate([window_features(c) for c in train])
    y = np.concatenate([to_canonical(c).reshape(len(c), -1) for c in train])
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-3

    def design(values: Array) -> Array:
        return np.concatenate([(values - mean) / spread, np.ones((len(values), 1))], axis=1)

    a = design(x)
    weights = np.linalg.solve(a.T @ a + strength * np.eye(a.shape[1]), a.T @ y)
    return lambda clip: from_canonical(clip, (design(window_features(clip)) @ weights).reshape(len(clip), -1, 3))


def nearest(train: Sequence[MotionClip], k: int = 32) -> Predict:
    """Mean canonical pose of the k training windows most like this one, every feature scaled by its spread."""
    x = np.concatenate([window_features(c) for c in train])
    y = np.concatenate([to_canonical(c) for c in train])
    spread = x.std(axis=0) + 1e-3
    x = x / spread
    square = (x * x).sum(axis=1)

    def predict(clip: MotionClip) -> Array:
        q = window_features(clip) / spread
        out = np.empty((len(clip), *y.shape[1:]))
        for start in range(0, len(clip), 256):
            # the query's own square shifts all distances alike
            far = square - 2 * q[start : start + 256] @ x.T
            found = np.argpartition(far, k, axis=1)[:, :k]
            out[start : start + 256] = y[found].mean(axis=1)
        return from_canonical(clip, out)

    return predict
