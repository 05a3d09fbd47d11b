"""A take: from 2D joints of calibrated views over time to a pose sequence.

The work is a row of stages that each take and return a :class:`Take`. The one in the middle, :func:`solve_frames`,
treats every joint of every frame alone; those of :mod:`egopose.triangulate.stages` put the 2D right before it and use
the whole take after it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from egopose import __version__
from egopose.camera import Rig
from egopose.config import Config, config_dict, config_hash
from egopose.errors import EgoposeError, EgoposeWarning
from egopose.observations import Observations2D
from egopose.pose import PoseSequence
from egopose.triangulate.overtime import SmoothingConfig
from egopose.triangulate.solve import MAX_PAIRS, MIN_ANGLE_DEG, TriangulatedPoints, triangulate_points
from egopose.triangulate.threshold import FACTOR

Progress = Callable[[float, str], None]

ASSUMED_FPS = 30.0
MOST_OUTSIDE = 0.2


class TriangulateConfig(Config, frozen=True, kw_only=True):
    """Settings of the triangulation of a take.

    Attributes:
        threshold_px: Largest residual of an agreeing view, or "auto".
        threshold_factor: The automatic threshold in units of ``sqrt(2)`` standard deviations.
        method: "robust" or "linear".
        min_score: 2D joints with a lower score are taken as unseen.
        min_angle_deg: Rays that meet at less are LOW_ANGLE.
        max_pairs: Most pairs of views tried for a joint.
        seed: Of the random part of the take that the threshold is estimated on.
        threads: Threads; None takes all cores. No result depends on it.
        raw: Only the frame-by-frame solve, with none of the stages below.
        time_offsets: Find the time offset of each camera and undo it.
        sides: Find where a camera exchanged left and right and undo it.
        drop_wrong_cameras: Leave out cameras that nearly never agree with the others.
        refine_cameras: Refine the cameras' poses from the keypoints.
        refine_focal: Their focal lengths too.
        hand_views: Let the 21 joints of a hand choose their views together.
        smooth: Solve over time.
        smoothing: Settings of that.
    """

    threshold_px: float | Literal["auto"] = "auto"
    threshold_factor: float = FACTOR
    method: Literal["robust", "linear"] = "robust"
    min_score: float = 0.0
    min_angle_deg: float = MIN_ANGLE_DEG
    max_pairs: int = MAX_PAIRS
    seed: int = 0
    threads: int | None = None
    raw: bool = False
    time_offsets: bool = True
    sides: bool = True
    drop_wrong_cameras: bool = True
    refine_cameras: bool = False
    refine_focal: bool = False
    hand_views: bool = True
    smooth: bool = True
    smoothing: SmoothingConfig = SmoothingConfig()


@dataclass(frozen=True, eq=False)
class Take:
    """What the stages hand on.

    Attributes:
        rig: The V cameras in the order of the views.
        observations: 2D joints of the V views.
        config: Settings.
        pose: The joints, None before the solve.
        used: (V, T, J) bool, the views that agree and were used.
        error_px: (T, J) mean reprojection distance over the views used.
        solved: The solve over all joints of all frames, flattened in (frame, joint) order.
        notes: Remarks for the report, in words.
        found: What the stages found, by stage, as plain data.
        unsmoothed: The joints before the solve over time.
    """

    rig: Rig
    observations: Observations2D
    config: TriangulateConfig
    pose: PoseSequence | None = None
    used: NDArray[np.bool_] | None = None
    error_px: NDArray[np.float64] | None = None
    solved: TriangulatedPoints | None = None
    notes: tuple[str, ...] = ()
    found: Mapping[str, Any] = field(default_factory=dict)
    unsmoothed: PoseSequence | None = None

    def noted(self, note: str) -> Take:
        """The same take with one more remark."""
        return replace(self, notes=(*self.notes, note))


Stage = Callable[[Take, Progress], Take]


def _silent(share: float, what: str) -> None:
    pass


def prepare_take(rig: Rig, observations: Observations2D, config: TriangulateConfig | None = None) -> Take:
    """Match the views to the cameras and check that they belong together.

    Views without a camera are left out with a warning; image sizes that differ from the calibration are reported.

    Raises:
        EgoposeError: Fewer than two views have a camera, raw pixels meet undistorted cameras or the reverse, or the
            rig cannot be in metres.
    """
    for value, kind, what in ((rig, Rig, "rig"), (observations, Observations2D, "observations")):
        if not isinstance(value, kind):
            raise EgoposeError(f"{what} is a {type(value).__name__}; expected egopose.{kind.__name__}")
    if config is not None and not isinstance(config, TriangulateConfig):
        raise EgoposeError(f"config is a {type(config).__name__}; expected egopose.triangulate.TriangulateConfig")
    if len(rig) < 2:
        raise EgoposeError(
            f"the rig has {len(rig)} camera(s) ({', '.join(rig.names)}); triangulation needs at least two"
        )
    config = config or TriangulateConfig()
    notes = []
    absent = [view for view in observations.views if view not in rig]
    if absent:
        note = f"no camera in the rig for view {', '.join(absent)}; left out (cameras: {', '.join(rig.names)})"
        warnings.warn(note, EgoposeWarning, stacklevel=3)
        notes.append(note)
    views = [view for view in observations.views if view in rig]
    if len(views) < 2:
        raise EgoposeError(
            f"{len(views)} of the views {', '.join(observations.views) or '(none)'} "
            f"{'has' if len(views) == 1 else 'have'} a camera in the rig ({', '.join(rig.names)}); "
            "triangulation needs at least two, check the names"
        )
    unit = rig.check_units()
    if unit is not None:
        raise EgoposeError(f"the rig is not in metres: {unit}")
    rig = rig.subset(views)
    observations = observations.select(views=views)
    for camera in rig.cameras:
        lens = camera.model != "pinhole"
        if observations.undistorted and camera.image_space == "raw" and lens:
            raise EgoposeError(
                f"the 2D joints belong to undistorted images but camera {camera.name!r} is a raw {camera.model} one; "
                "give the cameras of the undistorted images (their focal length differs)"
            )
        if not observations.undistorted and camera.image_space == "undistorted":
            raise EgoposeError(
                f"camera {camera.name!r} belongs to undistorted images but the 2D joints to raw ones; give the raw "
                "calibration, or mark the observations as undistorted"
            )
    for camera, size, uv in zip(rig.cameras, observations.sizes, observations.uv_px):
        if size is None:
            seen = uv[np.isfinite(uv).all(axis=-1)]
            outside = ((seen < -0.5) | (seen > np.array(camera.size) - 0.5)).any(axis=-1)
            # a detector may place a few joints beyond the border, not this many
            if outside.size and outside.mean() > MOST_OUTSIDE:
                note = (
                    f"camera {camera.name!r} is calibrated for {camera.size[0]}x{camera.size[1]} but "
                    f"{100 * outside.mean():.0f} % of its 2D joints lie outside, up to ({seen[:, 0].max():.0f}, "
                    f"{seen[:, 1].max():.0f}); check the size and the unit of the pixels"
                )
                warnings.warn(note, EgoposeWarning, stacklevel=3)
                notes.append(note)
        elif tuple(size) != tuple(camera.size):
            note = (
                f"camera {camera.name!r} is calibrated for {camera.size[0]}x{camera.size[1]} but its images are "
                f"{size[0]}x{size[1]}; {_other_size(tuple(size), tuple(camera.size))}"
            )
            warnings.warn(note, EgoposeWarning, stacklevel=3)
            notes.append(note)
    if observations.fps is None:
        note = f"the frame rate is not known; times assume {ASSUMED_FPS:g} frames per second"
        warnings.warn(note, EgoposeWarning, stacklevel=3)
        notes.append(note)
    return Take(rig, observations, config, notes=tuple(notes))


def _other_size(size: tuple[int, ...], calibrated: tuple[int, ...]) -> str:
    """What to think of images of another size than the calibration's."""
    if size == calibrated[::-1]:
        return "the images are turned: rotate them or the camera"
    wide = size[0] * calibrated[1] / (size[1] * calibrated[0])
    if not 0.98 < wide < 1.02:
        return "their shapes differ: the calibration is another camera's, or the images were cropped or turned"
    return "the pixels are used as they are, scale the camera if the images were resized"


def solve_frames(take: Take, progress: Progress, solved_before: TriangulatedPoints | None = None) -> Take:
    """Triangulate every joint of every frame on its own.

    Args:
        take: What is known so far.
        progress: See :func:`triangulate_take`.
        solved_before: A solve of the same take whose threshold and noise are to be kept.
    """
    observations, config = take.observations, take.config
    views, frames, joints = observations.uv_px.shape[:3]
    score = observations.score
    uv = observations.uv_px
    if score is not None and config.min_score > 0:
        uv = np.where((score < config.min_score)[..., None], np.float32(np.nan), uv)
    progress(0.0, "triangulate")
    solved = triangulate_points(
        take.rig.cameras, uv.reshape(views, frames * joints, 2),
        None if score is None else score.reshape(views, frames * joints),
        threshold=config.threshold_px if solved_before is None else solved_before.threshold_px,
        sigma_px=None if solved_before is None else solved_before.sigma_px, method=config.method,
        undistorted=False, min_angle_deg=config.min_angle_deg,
        max_pairs=config.max_pairs, threshold_factor=config.threshold_factor, seed=config.seed,
        threads=config.threads,
    )  # fmt: skip
    fps = observations.fps or ASSUMED_FPS
    shape = (frames, joints)
    pose = PoseSequence(
        observations.skeleton, observations.frames, observations.frames / fps,
        solved.points.reshape(*shape, 3).astype(np.float32), solved.sigma.reshape(shape).astype(np.float32),
        solved.covariance.reshape(*shape, 3, 3).astype(np.float32), solved.status.reshape(shape), "world",
        _provenance(take, solved),
    )  # fmt: skip
    progress(1.0, "triangulate")
    return replace(
        take, pose=pose, used=solved.used.reshape(views, *shape), error_px=solved.error_px.reshape(shape), solved=solved
    )


def _provenance(take: Take, solved: TriangulatedPoints) -> dict[str, Any]:
    return {
        "source": "triangulate",
        "version": __version__,
        "config": config_dict(take.config),
        "config_hash": config_hash(take.config),
        "views": list(take.observations.views),
        "threshold_px": solved.threshold_px if np.isfinite(solved.threshold_px) else None,
        "threshold_source": solved.threshold.source,
        "sigma_px": solved.sigma_px,
        "observations": dict(take.observations.provenance),
        "notes": list(take.notes),
    }


def triangulate_take(
    rig: Rig,
    observations: Observations2D,
    config: TriangulateConfig | None = None,
    progress: Progress | None = None,
    *,
    stages: Sequence[Stage] | None = None,
) -> Take:
    """Run the stages and return everything that the report needs.

    Args:
        rig: Calibrated cameras; the views find theirs by name.
        observations: 2D joints.
        config: Settings; None takes the defaults.
        progress: Called with the share done in [0, 1] and what is being done; None stays silent.
        stages: What to do, in order; None takes what the configuration asks for.

    Returns:
        The take with its pose sequence, views used and errors.

    Raises:
        EgoposeError: As :func:`~egopose.triangulate.take.prepare_take` and
            :func:`~egopose.triangulate.triangulate_points`.
    """
    take = prepare_take(rig, observations, config)
    if progress is not None and not callable(progress):
        raise EgoposeError(f"progress is {progress!r}; expected a function of the share done and a word, or None")
    tell = progress or _silent
    if stages is None:
        from egopose.triangulate.stages import stages_for

        stages = stages_for(take.config)
    for i, stage in enumerate(stages):
        take = stage(take, lambda share, what, i=i: tell((i + share) / len(stages), what))  # type: ignore[misc]
    return take


def triangulate(
    rig: Rig,
    observations: Observations2D,
    config: TriangulateConfig | None = None,
    progress: Progress | None = None,
) -> PoseSequence:
    """3D joints of a take, each with its error bar and a status.

    Args:
        rig: Calibrated cameras; the views find theirs by name.
        observations: 2D joints of at least two views.
        config: Settings; None takes the defaults.
        progress: Called with the share done in [0, 1] and what is being done; None stays silent.

    Returns:
        World joints in metres with covariance and status; the provenance names the threshold and the views.

    Raises:
        EgoposeError: As :func:`triangulate_take`.
    """
    pose = triangulate_take(rig, observations, config, progress).pose
    if pose is None:
        raise EgoposeError("no stage made a pose sequence; the stages must include a solve")
    return pose
