"""Scores of the whole network on rendered clips of held-out subjects, and the error bars of what is in view."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.clip import Clip
from egopose.metrics import mpjpe, mpjve, pa_mpjpe
from egopose.model.engine import TorchEngine
from egopose.model.errorbars import bar_axes
from egopose.model.network import EgoPoseNet
from egopose.pose import JointStatus, PoseSequence
from egopose.predict import Mode, Predictor
from egopose.skeleton import BODY12, BODY17, BODY17_HANDS, HAND21
from egopose.train.calibrate import Errors, coverage, fitted_factors, sigma_factors
from egopose.train.rendered import RenderedClip, hands_shown
from egopose.trajectory import Trajectory

Array = NDArray[np.float64]

HANDS = np.arange(BODY17.n_joints, BODY17_HANDS.n_joints)
INNER = BODY17_HANDS.indices(BODY12.joints)
WRIST = HAND21.index("wrist")
CLIPS_WHILE_TRAINING = 12
"""Clips that are scored at each look during training; a rendered frame costs a hundred times a head pose."""


def rendered_sequences(
    model: EgoPoseNet, clips: Sequence[RenderedClip], mode: Mode = "offline", *, images: bool = True
) -> Iterator[tuple[RenderedClip, PoseSequence]]:
    """Each clip with what the network says from images and head poses, or from the poses alone, in the world."""
    notes = {"trained": ["body", "hands", "images"]}
    predictor = Predictor(TorchEngine(model, next(model.parameters()).device), notes=notes)
    for clip in clips:
        trajectory = Trajectory(clip.times_s, clip.T_world_camera, max_gap_s=1e9)
        source = Clip(trajectory=trajectory)
        if images:
            source = Clip(list(clip.images), clip.camera, trajectory, times_s=clip.times_s)
        yield clip, predictor.predict(source, mode=mode, floor_z=0.0)


def hands(joints: Array) -> Array:
    """Both hands (T, 2, 21, 3) of joints (T, 59, 3)."""
    return joints[:, BODY17.n_joints :].reshape(len(joints), 2, HAND21.n_joints, 3)


def rendered_scores(
    model: EgoPoseNet, clips: Sequence[RenderedClip], *, most: int | None = CLIPS_WHILE_TRAINING, mode: Mode = "offline"
) -> dict[str, float]:
    """Errors with images and head poses.

    Args:
        model: The network.
        clips: Held-out clips.
        most: Score this many, evenly picked; None for all.
        mode: See :meth:`egopose.predict.Predictor.predict`.

    Returns:
        ``body12_cm`` over all joints from shoulders to ankles, ``body12_seen_cm`` over those in view,
        ``poses_body12_cm`` from head poses alone, ``mpjve12_cm_s``; of hands that are shown ``hand_mm`` relative to
        the wrist, ``hand_pa_mm`` after Procrustes, ``hand_camera_mm`` without alignment; and ``score``, body and
        wrist-relative hand error added in cm.
    """
    if most is not None and len(clips) > most:
        clips = [clips[i] for i in np.linspace(0, len(clips) - 1, most).round().astype(int)]
    rows: dict[str, list[Array]] = {}

    def add(name: str, values: Array | float) -> None:
        rows.setdefault(name, []).append(np.asarray(values, dtype=np.float64).ravel())

    for clip, sequence in rendered_sequences(model, clips, mode):
        said, true = sequence.xyz.astype(np.float64), clip.joints
        fps = (len(clip) - 1) / (clip.times_s[-1] - clip.times_s[0])
        add("body12_cm", 100 * mpjpe(said[:, INNER], true[:, INNER]))
        add("body12_seen_cm", 100 * mpjpe(said[:, INNER], true[:, INNER], clip.visible[:, INNER] == 1))
        add("mpjve12_cm_s", 100 * mpjve(said[:, INNER], true[:, INNER], fps=fps))
        shown = hands_shown(clip.visible)
        mine, theirs = hands(said)[shown], hands(true)[shown]
        if len(mine):
            add("hand_camera_mm", 1000 * mpjpe(mine, theirs))
            add("hand_mm", 1000 * mpjpe(mine, theirs, root=WRIST))
            add("hand_pa_mm", 1000 * pa_mpjpe(mine, theirs))
    for clip, sequence in rendered_sequences(model, clips, mode, images=False):
        add("poses_body12_cm", 100 * mpjpe(sequence.xyz[:, INNER].astype(np.float64), clip.joints[:, INNER]))
    out = {name: _mean(np.concatenate(values)) for name, values in rows.items()}
    out["score"] = out["body12_cm"] + out.get("hand_mm", 0.0) / 10
    return out


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def calibrate_rendered(model: EgoPoseNet, clips: Sequence[RenderedClip]) -> dict[str, float]:
    """Set the factors of the error bars where there are images, and those of hands without, from rendered clips.

    The body's factors without images come from captured motion and stay as they are.

    Returns:
        Coverage reached of 50 and 90 per cent intervals with images, in view and out of view, offline and (``_causal``)
        as they come.
    """
    import torch

    factor = model.sigma_factor
    assert isinstance(factor, torch.Tensor)
    blind = factor[:1].clone()
    factor.fill_(1.0)
    # without images nothing is said to be in view
    unseen = _errors(model, clips, images=False)
    blind[0, HANDS] = torch.from_numpy(sigma_factors(unseen.along, unseen.sigma, unseen.said)[0, HANDS])
    rows, out = [blind], {}
    modes: tuple[tuple[Mode, str], ...] = (("offline", ""), ("causal", "_causal"))
    for mode, ending in modes:
        found = _errors(model, clips, mode, images=True)
        factors = fitted_factors(found)
        rows.append(torch.from_numpy(factors))
        sigma = found.frame_sigma(factors)
        for share in (0.5, 0.9):
            for name, some in (("in_view", found.seen), ("out_of_view", ~found.seen)):
                counted = np.where(some[..., None], found.error, np.nan)
                out[f"coverage{round(100 * share)}_{name}{ending}"] = coverage(counted, sigma, share)
    factor.copy_(torch.cat(rows))
    return out


def _errors(model: EgoPoseNet, clips: Sequence[RenderedClip], mode: Mode = "offline", *, images: bool) -> Errors:
    """Errors of all frames; factors of error bars must be 1."""
    rows = []
    for clip, sequence in rendered_sequences(model, clips, mode, images=images):
        assert sequence.axis_sigma is not None
        assert sequence.status is not None
        T_camera_world = rigid.invert(clip.T_world_camera)
        # where sigmas are predicted and most errors lie along one axis, the depth
        xyz = rigid.transform_points(T_camera_world, sequence.xyz.astype(np.float64))
        error = xyz - rigid.transform_points(T_camera_world, clip.joints)
        said = sequence.status == JointStatus.OK
        axes = bar_axes(xyz, T_camera_world[:, :3, 2], said)
        rows.append((error, sequence.axis_sigma[..., 0], axes, said, clip.visible == 1))
    return Errors(*(np.concatenate(values) for values in zip(*rows, strict=True)))


def rendered_table(weights: str, folder: str | os.PathLike[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Errors of some weights on rendered clips of held-out people by what goes in, all on the same frames.

    Args:
        weights: Name or file.
        folder: Rendered clips.

    Returns:
        ``rows``: name of the inputs -> measure -> value. Everything is compared in camera axes, so that the row
        without head poses can be told from the others. Rows with images are absent when these weights were not
        trained on any.
    """
    from egopose.model.weights import from_pretrained
    from egopose.train.rendered_files import load_rendered

    found = from_pretrained(weights)
    predictor = Predictor(TorchEngine(found.model()), notes=found.notes)
    clips = load_rendered(folder)
    cases = {"(c) head poses": (False, True), "(d) images": (True, False), "(e) images and head poses": (True, True)}
    if "images" not in predictor.trained:
        cases = {"(c) head poses": (False, True)}
    rows = {}
    for name, (images, poses) in cases.items():
        values: dict[str, list[Array]] = {}
        for clip in clips:
            trajectory = Trajectory(clip.times_s, clip.T_world_camera, max_gap_s=1e9) if poses else None
            if images:
                source = Clip(list(clip.images), clip.camera, trajectory, times_s=clip.times_s)
            else:
                source = Clip(trajectory=trajectory)
            said = predictor.predict(source, space="camera", floor_z=0.0).xyz.astype(np.float64)
            true = rigid.transform_points(rigid.invert(clip.T_world_camera), clip.joints)
            seen = clip.visible[:, INNER] == 1
            shown = hands_shown(clip.visible)
            mine, theirs = hands(said)[shown], hands(true)[shown]
            new = {
                "body-12 cm": 100 * mpjpe(said[:, INNER], true[:, INNER]),
                "body-12 in view cm": 100 * mpjpe(said[:, INNER], true[:, INNER], seen),
                "body-12 out of view cm": 100 * mpjpe(said[:, INNER], true[:, INNER], ~seen),
                "hand, wrist-relative mm": 1000 * mpjpe(mine, theirs, root=WRIST),
                "hand, Procrustes mm": 1000 * pa_mpjpe(mine, theirs),
                "hand, camera mm": 1000 * mpjpe(mine, theirs),
            }
            for measure, numbers in new.items():
                values.setdefault(measure, []).append(np.asarray(numbers, dtype=np.float64).ravel())
        rows[name] = {measure: _mean(np.concatenate(parts)) for measure, parts in values.items()}
    return {"rows": rows}
