"""Predict the wearer's body and hands: whole clips offline, live input frame by frame."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.camera import Camera
from egopose.clip import Clip
from egopose.clip_steps import Missing, Steps, read_steps
from egopose.errors import EgoposeError, EgoposeWarning
from egopose.hand_source import Hands, HandSource, open_hands
from egopose.model.clock import FULL, horizon, split_lookahead
from egopose.model.imu import imu_features
from egopose.model.numeric import Said, concatenate
from egopose.model.session import StepInput, StreamSession, encode_clip, encode_sensors, run_whole
from egopose.model.track import FrameReader
from egopose.pose import PoseSequence
from egopose.predicted import Inputs, build_sequence
from egopose.trajectory import Trajectory

if TYPE_CHECKING:
    from egopose.model.engine import Engine

Mode = Literal["offline", "causal"] | int
"""``"offline"`` sees the whole clip, ``"causal"`` what came before, a number that many steps ahead."""


_NOTHING_READ = (
    "these weights do not read images and there are no head poses: the result is an average pose that says nothing "
    "about this clip; give a trajectory, or weights trained for images"
)

_HANDS_READ = (
    "these weights do not read images and there are no head poses: only the hands come from this clip, the body is an "
    "average pose; give a trajectory, or weights trained for images"
)


class Predictor:
    """A network with its weights, ready to run.

    One set of weights serves all modes: offline over a whole clip, with a few steps of look-ahead, or causal; the
    streamed result is the causal offline result.
    """

    def __init__(
        self, engine: Engine, *, name: str = "", notes: dict[str, Any] | None = None, sha256: str = ""
    ) -> None:
        """Wrap an engine; most callers want :meth:`from_pretrained`.

        Args:
            engine: What runs the network.
            name: Of the weights, for provenance.
            notes: Of the weights file; ``trained`` lists what was trained ("body", "hands", "images").
            sha256: Of the weights.
        """
        self.engine, self.name, self.notes, self.sha256 = engine, name, dict(notes or {}), sha256
        self.trained = frozenset(self.notes.get("trained", ("body", "hands", "images")))

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike[str] = "nano", *, device: str = "cpu", threads: int | None = 1
    ) -> Predictor:
        """Weights that come with the package, or a weights file.

        Args:
            name_or_path: Such as ``"nano"``, or a ``.safetensors`` file.
            device: "cpu", "cuda", "cuda:N" or "auto".
            threads: Torch threads of this process; one is fastest for small networks on a shared machine. None
                leaves torch's own setting.

        Raises:
            EgoposeError: No such weights, a corrupted or foreign file, or no GPU where one was asked for.
        """
        if not isinstance(name_or_path, str | os.PathLike):
            raise EgoposeError(
                f"weights: got {name_or_path!r}; expected a name such as 'nano', or the path of a .safetensors file"
            )
        import torch

        from egopose.model.device import pick_device
        from egopose.model.engine import TorchEngine
        from egopose.model.weights import from_pretrained

        target = pick_device(device)
        weights = from_pretrained(name_or_path)
        if threads is not None and target.type == "cpu":
            torch.set_num_threads(threads)
        name = Path(name_or_path).stem if str(name_or_path).endswith(".safetensors") else str(name_or_path)
        return cls(TorchEngine(weights.model(), target), name=name, notes=weights.notes, sha256=weights.sha256)

    @classmethod
    def from_onnx(cls, folder: str | os.PathLike[str], *, threads: int = 1) -> Predictor:
        """An exported network, run by onnxruntime without torch; causal and look-ahead modes only.

        Raises:
            EgoposeError: As :class:`egopose.model.onnx.OnnxEngine`.
        """
        from egopose.model.onnx import OnnxEngine

        engine = OnnxEngine(folder, threads=threads)
        return cls(engine, name=f"{engine.config.name} (onnx)", notes=engine.notes, sha256=engine.sha256)

    def predict(
        self,
        clip: Clip,
        *,
        mode: Mode = "offline",
        space: str | None = None,
        floor_z: float | Literal["auto"] | None = "auto",
        missing_poses: Missing = "error",
        hands: Hands = None,
        smooth: bool = False,
        progress: Any = None,
    ) -> PoseSequence:
        """Joints of the wearer at every frame of a clip.

        Args:
            clip: Frames, camera, trajectory, inertial samples; whatever is there is used.
            mode: See :data:`Mode`.
            space: "world" (needs a trajectory), "head" (the canonical frame: on the floor below the camera, x
                forward, z up) or "camera"; by default world with a trajectory, else camera.
            floor_z: Height of the floor in the world, metres; None when it is not known; "auto" takes 0 when the
                head moves at heights a person's head can have above it, and otherwise leaves it unknown.
            missing_poses: What happens at frames inside a gap of the trajectory or outside it: refuse ("error"),
                take the nearest pose ("nearest"), or go on without a pose there ("absent"; such frames have no
                joints in the world).
            hands: Another source of hands that is merged with the network's: "mediapipe" (the nets of ``egopose
                weights fetch``), a file of another network's hands (:mod:`egopose.hand_files`), or estimates made by
                hand. The result then carries covariances: a hand's distance is known less well than its direction.
            smooth: Smooth the joints over time, weighted by their error bars (:mod:`egopose.postsmooth`).
            progress: Called with the share done and a word.

        Returns:
            59 joints per frame with one standard deviation each. A joint out of view has status OUT_OF_VIEW; what
            these weights were not trained for is MISSING.

        Raises:
            EgoposeError: The clip's parts do not fit each other or cannot be read; nothing is returned then.
        """
        if not isinstance(clip, Clip):
            raise EgoposeError(f"predict: got a {type(clip).__name__}; expected egopose.Clip(frames=, trajectory=)")
        if clip.trajectory is None and clip.imu is None and "images" not in self.trained:
            warnings.warn(_NOTHING_READ if hands is None else _HANDS_READ, EgoposeWarning, stacklevel=2)
        if progress is not None and not callable(progress):
            raise EgoposeError(f"progress is {progress!r}; expected a function of the share done and a word, or None")
        lookahead = _lookahead(mode)
        source = open_hands(hands)
        see, wanted = "images" in self.trained, source.needs_camera(clip)
        steps = read_steps(clip, missing_poses, use_images=see or wanted)
        source.start(steps, clip.camera)
        floor = _floor(floor_z, steps.poses)
        reader = None if steps.camera is None or not see else FrameReader(steps.camera, self.engine.config)
        if lookahead == FULL or reader is None:
            said = self._offline(clip, steps, reader, lookahead, floor, source, progress)
        else:
            said = self._streamed(clip, steps, reader, lookahead, floor, source, progress)
        inputs = Inputs(
            name=self.name, sha256=self.sha256, trained=self.trained, mode=str(mode), images=reader is not None,
            trajectory=clip.trajectory is not None, imu=clip.imu is not None, floor_z=floor,
            sigma_factor=self.engine.sigma_factor, missing_poses=missing_poses, live=lookahead != FULL,
            hands=source.notes, smooth=smooth,
        )  # fmt: skip
        return build_sequence(said, steps, inputs, space, source.finish(said, self.trained))

    def _offline(
        self, clip: Clip, steps: Steps, reader: FrameReader | None, lookahead: int, floor: float | None,
        source: HandSource, progress: Any,
    ) -> Said:  # fmt: skip
        if not hasattr(self.engine, "whole"):
            if lookahead == FULL:
                raise EgoposeError("an exported network runs step by step; use mode='causal' or a number of steps")
            return self._streamed(clip, steps, reader, lookahead, floor, source, progress)
        look = None if lookahead == FULL else split_lookahead(lookahead)[1]
        ahead = horizon(steps.times_s, lookahead)
        if reader is None:
            if source.watches:
                for i, _ in enumerate(_inputs(clip, steps, source, give=False)):
                    if progress is not None:
                        progress((i + 1) / (steps.times_s.size + 1), "hands")
            imu = _imu(clip, steps.times_s)
            encoded = encode_sensors(self.engine, steps.times_s, steps.poses, imu, floor_z=floor, horizon_s=ahead)
        else:
            records = []
            stream = encode_clip(
                self.engine, reader, _inputs(clip, steps, source), floor_z=floor, poses=steps.poses,
                times_s=steps.times_s, horizon_s=ahead, search=look is None,
            )  # fmt: skip
            for record in stream:
                records.append(record)
                if progress is not None:
                    progress(len(records) / (steps.times_s.size + 1), "frames")
            if len(records) != steps.times_s.size:
                raise EgoposeError(
                    f"{steps.where}: {len(records)} frames came of {steps.times_s.size} that were announced"
                )
            encoded = concatenate(records)
        return run_whole(self.engine, steps.times_s, encoded, lookahead=look)  # type: ignore[arg-type]

    def _streamed(
        self, clip: Clip, steps: Steps, reader: FrameReader | None, lookahead: int, floor: float | None,
        source: HandSource, progress: Any,
    ) -> Said:  # fmt: skip
        session = StreamSession(self.engine, reader=reader, lookahead=lookahead, floor_z=floor)
        finished = []
        for i, step in enumerate(_inputs(clip, steps, source, give=reader is not None)):
            finished += session.push(step)
            if progress is not None:
                progress((i + 1) / (steps.times_s.size + 1), "frames")
        finished += session.flush()
        if len(finished) != steps.times_s.size:
            raise EgoposeError(
                f"{steps.where}: {len(finished)} frames came of {steps.times_s.size} that were announced"
            )
        return Said(*(np.concatenate(values) for values in zip(*(f.said for f in finished))))

    def stream(
        self,
        frames: Iterable[Any] | None = None,
        *,
        camera: Camera | None = None,
        trajectory: Trajectory | Iterable[ArrayLike | None] | None = None,
        times_s: Iterable[float] | None = None,
        fps: float | None = None,
        lookahead: int = 0,
        floor_z: float | None = 0.0,
        space: str | None = None,
        hands: Literal["mediapipe"] | None = None,
    ) -> Iterator[PoseSequence]:
        """Live input: one frame in, one pose out.

        Args:
            frames: Images (H, W, 3) uint8 RGB, or None for head poses alone.
            camera: Of the images.
            trajectory: Head poses: one (4, 4) or None per frame, lazily, or a :class:`Trajectory` that is asked at
                the frames' times.
            times_s: Time of each frame, lazily; without it frames come at ``fps``, or at the trajectory's own times.
            fps: Frames per second when there are no times.
            lookahead: Steps of delay: the pose of a frame comes that many frames later, and is better.
            floor_z: Height of the floor in the world, or None.
            space: As in :meth:`predict`.
            hands: "mediapipe" merges the hands of those nets in, as in :meth:`predict`.

        Yields:
            A :class:`PoseSequence` of one frame each, in order.

        Raises:
            EgoposeError: A frame does not fit the camera, times do not increase, or a pose is not finite.
        """
        use = frames is not None and "images" in self.trained
        if frames is not None and trajectory is None and not use:
            warnings.warn(_NOTHING_READ if hands is None else _HANDS_READ, EgoposeWarning, stacklevel=2)
        if hands not in (None, "mediapipe"):
            raise EgoposeError(f"stream: hands is {hands!r}; expected 'mediapipe' or None (files need a whole clip)")
        source = open_hands(hands)
        look = use or source.watches
        if source.watches and frames is None:
            raise EgoposeError("stream: hands='mediapipe' looks at images; give frames and their camera")
        if look and camera is None:
            raise EgoposeError("stream: images need their camera; give camera=, for example Camera.pinhole(...)")
        reader = FrameReader(camera, self.engine.config) if use and camera is not None else None
        source.follow(camera)
        session = StreamSession(self.engine, reader=reader, lookahead=lookahead, floor_z=floor_z)
        inputs = Inputs(
            name=self.name, sha256=self.sha256, trained=self.trained, mode=f"stream, {lookahead} steps ahead",
            images=use, trajectory=trajectory is not None, imu=False, floor_z=floor_z,
            sigma_factor=self.engine.sigma_factor, missing_poses="absent", live=True, hands=source.notes,
        )  # fmt: skip

        def one(finished: Any) -> PoseSequence:
            pose = np.full((1, 4, 4), np.nan) if finished.T_world_camera is None else finished.T_world_camera[None]
            steps = Steps(
                np.array([finished.time_s]), np.array([finished.number]), pose, camera if look else None, "stream"
            )
            return build_sequence(finished.said, steps, inputs, space, source.finish(finished.said, self.trained))

        for step in _live(frames, trajectory, times_s, fps, look):
            if source.watches:
                step = source.watch(step)
                step = step if use else replace(step, frame=None)
            for finished in session.push(step):
                yield one(finished)
        for finished in session.flush():
            yield one(finished)

    def __repr__(self) -> str:
        return f"Predictor({self.name or self.engine.config.name}, trained for {', '.join(sorted(self.trained))})"


def _lookahead(mode: Mode) -> int:
    if mode == "offline":
        return FULL
    if mode == "causal":
        return 0
    if isinstance(mode, int) and not isinstance(mode, bool) and mode >= 0:
        return mode
    raise EgoposeError(f"mode is {mode!r}; expected 'offline', 'causal' or a number of steps of look-ahead")


LOWEST_HEAD_M, HIGHEST_HEAD_M = 0.4, 2.3


def _floor(floor_z: float | Literal["auto"] | None, poses: NDArray[np.float64]) -> float | None:
    if floor_z is None:
        return None
    if not isinstance(floor_z, str) or floor_z != "auto":
        if isinstance(floor_z, str) or not np.isfinite(floor_z):
            raise EgoposeError(f"floor_z is {floor_z!r}; expected metres, None or 'auto'")
        return float(floor_z)
    heights = poses[:, 2, 3]
    heights = heights[np.isfinite(heights)]
    if heights.size == 0:
        return None
    return 0.0 if LOWEST_HEAD_M <= float(np.median(heights)) <= HIGHEST_HEAD_M else None


def _imu(clip: Clip, times_s: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    if clip.imu is None:
        return None
    return imu_features(times_s, clip.imu.times_s, clip.imu.acceleration, clip.imu.angular_velocity)


def _inputs(clip: Clip, steps: Steps, source: HandSource, *, give: bool = True) -> Iterator[StepInput]:
    """The steps one by one; the hand source sees each before the network does.

    Args:
        clip: The clip.
        steps: Its layout in time.
        source: Of hands.
        give: Whether the network wants the images.
    """
    imu = _imu(clip, steps.times_s)
    images = steps.images()
    for i, time in enumerate(steps.times_s):
        frame = None
        if give or source.watches:
            frame = next(images, None)
            if frame is None and steps.camera is not None:
                return
        pose = steps.poses[i]
        row = None if imu is None or not imu[1][i] else imu[0][i]
        step = StepInput(float(time), frame, pose if np.isfinite(pose).all() else None, row)
        step = source.watch(step)
        yield step if give else replace(step, frame=None)


def _live(frames: Any, trajectory: Any, times_s: Any, fps: float | None, use: bool) -> Iterator[StepInput]:
    if frames is None and trajectory is None:
        raise EgoposeError("stream: neither frames nor a trajectory; give at least one of them")
    recorded = trajectory if isinstance(trajectory, Trajectory) else None
    if times_s is None and fps is None:
        if recorded is None:
            raise EgoposeError("stream: frames need their times; give times_s= or fps=")
        times_s = recorded.times_s
    if fps is not None and not fps > 0:
        raise EgoposeError(f"stream: fps is {fps}; expected a positive number")
    clock = iter(times_s) if times_s is not None else None
    poses = iter(trajectory) if trajectory is not None and recorded is None else None
    images = iter(frames) if frames is not None else None
    number = 0
    done = object()
    while True:
        # frames set the pace; without them the poses, or a recorded trajectory's times
        frame: Any = next(images, done) if images is not None else None
        pose: Any = next(poses, done) if poses is not None else None
        time: Any = number / fps if clock is None and fps is not None else next(clock, done)  # type: ignore[arg-type]
        if frame is done or time is done or (pose is done and images is None):
            return
        if recorded is not None:
            if images is None and clock is None and time > recorded.times_s[-1]:
                return
            found = recorded.at(float(time), gaps="nan", outside="nan")
            pose = found if np.isfinite(found).all() else None
        elif pose is done:
            pose = None
        yield StepInput(float(time), frame if use else None, None if pose is None else np.asarray(pose, np.float64))
        number += 1
