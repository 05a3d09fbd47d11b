"""Running the network over time: one step after another with a cache, or a whole clip at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.model.clock import RingClock, attention_masks, split_lookahead, time_rotation
from egopose.model.headmotion import LAGS_S, TOP_S, HeadMotion, head_features
from egopose.model.imu import IMU_FEATURES
from egopose.model.numeric import FrameArrays, Said, StepArrays, concatenate, take
from egopose.model.search import HandSearch
from egopose.model.track import FrameReader, cut_crops, see_frames

if TYPE_CHECKING:
    from egopose.model.engine import Engine, TorchEngine

Array = NDArray[np.float64]

WINDOW, OVERLAP = 512, 128
"""Steps of a window of the offline run, and how many two neighbours share."""

CHUNK = 16
"""Images encoded together in the offline run."""

CLOSER = 1.2
"""How much further away than a hand the only look at it in a live frame is aimed, so that it is shown larger: 1.4 mm
better on the clips that chose the weights; see :data:`egopose.model.search.AIMS`."""


@dataclass(frozen=True)
class StepInput:
    """One step as it arrives.

    Attributes:
        time_s: Seconds.
        frame: (H, W, 3) uint8 RGB, or None.
        T_world_camera: (4, 4), or None where there is no pose.
        imu: (IMU_FEATURES,) or None.
        hand_centres: Left and right hand, (3,) in camera axes each, where something else has found them; None leaves
            that hand to the network.
    """

    time_s: float
    frame: NDArray[np.uint8] | None = None
    T_world_camera: Array | None = None
    imu: NDArray[np.float32] | None = None
    hand_centres: tuple[Array | None, Array | None] = (None, None)


@dataclass(frozen=True)
class Finished:
    """One step as it leaves: its number from 0, time, pose, and what the network says (leading axis 1)."""

    number: int
    time_s: float
    T_world_camera: Array | None
    said: Said


def encode_frame(
    engine: Engine,
    reader: FrameReader | None,
    step: StepInput,
    head: NDArray[np.float32],
    head_known: bool,
    seen: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> StepArrays:
    """All of one frame before time enters; the reader follows the hands.

    Args:
        engine: The network.
        reader: Of the camera, or None without images.
        step: The frame.
        head: (HEAD_FEATURES,) head-motion features.
        head_known: Whether they mean anything.
        seen: Tokens and hand map of the image when it was encoded before.
    """
    imu = np.zeros(IMU_FEATURES, dtype=np.float32) if step.imu is None else step.imu
    sensors = FrameArrays(
        head=head[None], head_known=np.array([head_known]), imu=imu[None].astype(np.float32),
        imu_known=np.array([step.imu is not None]),
    )  # fmt: skip
    if reader is None:
        return engine.encode(sensors)
    config, frame = engine.config, step.frame
    centres: list[Array | None] = [None, None]
    if frame is None:
        tokens = np.zeros((1, reader.rays.shape[0] ** 2, config.dim), dtype=np.float32)
        frame = np.zeros((1, 1, 3), np.uint8)
    else:
        tokens, heat = engine.see(reader.image(frame)[None], reader.rays[None]) if seen is None else seen
        centres = reader.centres(heat[0], step.T_world_camera, step.hand_centres)
    arrays = sensors._replace(image_tokens=tokens, image_known=np.array([step.frame is not None]))

    aims = [None if centre is None else CLOSER * centre for centre in centres]
    crops = cut_crops(frame, reader.camera, aims, config.hand_px, reader.hand_cells)[1]
    encoded = engine.encode(arrays._replace(**{name: value[None] for name, value in vars(crops).items()}))
    reader.remember(encoded, step.T_world_camera)
    return encoded


class StreamSession:
    """One frame in, one pose out; with a look-ahead of k steps the pose comes k frames later."""

    def __init__(
        self, engine: Engine, *, reader: FrameReader | None = None, lookahead: int = 0, floor_z: float | None = 0.0
    ) -> None:
        """Start empty.

        Args:
            engine: The network.
            reader: Of the camera; None when images are not used.
            lookahead: Steps of delay.
            floor_z: Height of the floor in the world, metres, or None when it is not known.

        Raises:
            EgoposeError: The look-ahead is negative or does not fit the cache.
        """
        config = engine.config
        if not 0 <= lookahead < config.ring // 2:
            raise EgoposeError(f"lookahead is {lookahead}; expected 0 to {config.ring // 2 - 1} steps")
        self.engine, self.reader, self.floor_z = engine, reader, floor_z
        self.lookahead = lookahead
        self._for_head, self._for_first = split_lookahead(lookahead)
        self._cache = engine.empty_cache()
        self._first, self._rest = RingClock(config.ring, config.window_s), RingClock(config.ring, config.window_s)
        self._poses: deque[tuple[float, Array]] = deque()
        self._waiting: deque[tuple[int, StepInput]] = deque()
        self._encoded: deque[tuple[int, StepInput, StepArrays]] = deque()
        self._count, self._last, self._start = 0, -np.inf, 0.0

    def push(self, step: StepInput) -> list[Finished]:
        """Take a step in; give the step that is finished now, if there is one.

        Raises:
            EgoposeError: Time does not move forward, a pose is not finite, or the image does not fit the camera.
        """
        if not np.isfinite(step.time_s) or step.time_s <= self._last:
            raise EgoposeError(
                f"stream: step {self._count} is at {step.time_s} s, not after the one before ({self._last:.6f} s); "
                "feed frames in order, each with its own time"
            )
        if step.T_world_camera is not None and not np.isfinite(step.T_world_camera).all():
            raise EgoposeError(
                f"stream: the head pose of step {self._count} ({step.time_s:.6f} s) holds NaN or infinity; give None "
                "for a step without a pose"
            )
        if self._count == 0:
            self._start = step.time_s
        self._last = step.time_s
        pose = np.full((4, 4), np.nan) if step.T_world_camera is None else np.asarray(step.T_world_camera, np.float64)
        self._poses.append((step.time_s, pose))
        self._waiting.append((self._count, step))
        self._count += 1
        oldest = self._waiting[0][1].time_s - max(TOP_S, LAGS_S[-1]) - 1.0
        while self._poses[0][0] < oldest:
            self._poses.popleft()
        return self._advance(flush=False)

    def flush(self) -> list[Finished]:
        """The steps that were waiting for frames that do not come."""
        return self._advance(flush=True)

    def _advance(self, *, flush: bool) -> list[Finished]:
        done = []
        while self._waiting and (flush or self._count - 1 - self._waiting[0][0] >= self._for_head):
            self._encode(*self._waiting.popleft())
            # before the next step comes: it would push the oldest key out of the ring
            while self._encoded and self._first.numbers[-1] - self._encoded[0][0] >= self._for_first:
                done.append(self._finish(*self._encoded.popleft()))
        while flush and self._encoded:
            done.append(self._finish(*self._encoded.popleft()))
        return done

    def _encode(self, number: int, step: StepInput) -> None:
        times = np.array([t for t, _ in self._poses])
        poses = np.stack([p for _, p in self._poses])
        at = int(np.searchsorted(times, step.time_s - 1e-12))
        # with a look-ahead the features may use the poses that have arrived since, no more
        end = min(at + self._for_head, times.size - 1)
        motion = head_features(
            times, poses, floor_z=self.floor_z, horizon_s=np.full(times.size, times[end]), steps=np.array([at])
        )
        encoded = encode_frame(self.engine, self.reader, step, motion.features[0], bool(motion.known[0]))
        self._first.push(number, step.time_s)
        self._cache = self.engine.push(encoded.token, self._rotation(step.time_s), self._cache)
        self._encoded.append((number, step, encoded))

    def _rotation(self, time_s: float) -> NDArray[np.float32]:
        c = self.engine.config
        return time_rotation(np.array([time_s - self._start]), c.dim // c.heads)

    def _finish(self, number: int, step: StepInput, encoded: StepArrays) -> Finished:
        self._rest.push(number, step.time_s)
        first = self._first.allow(number, step.time_s, self._for_first)
        rest = self._rest.allow(number, step.time_s, 0)
        said, self._cache = self.engine.read(encoded, self._rotation(step.time_s), first[None], rest[None], self._cache)
        return Finished(number, step.time_s, step.T_world_camera, said)


def encode_clip(
    engine: Engine, reader: FrameReader, steps: Iterable[StepInput], *, floor_z: float | None,
    poses: NDArray[np.float64], times_s: Array, horizon_s: Array | None, search: bool = False,
) -> Iterator[StepArrays]:  # fmt: skip
    """Encode a clip's frames in order, images in chunks.

    Args:
        engine: The network.
        reader: Of the camera.
        steps: The frames.
        floor_z: Height of the floor, or None.
        poses: (T, 4, 4), NaN where absent.
        times_s: (T,).
        horizon_s: Latest time each step's head features may use, or None.
        search: Decide where the hands are from the frames of a chunk together (:mod:`egopose.model.search`): better,
            in twice the time or more.
    """
    motion = head_features(times_s, poses, floor_z=floor_z, horizon_s=horizon_s)
    whole = HandSearch(engine, reader) if search else None
    start, left = 0, iter(steps)
    while chunk := list(islice(left, CHUNK)):
        at = slice(start, start + len(chunk))
        start += len(chunk)
        part = HeadMotion(motion.features[at], motion.known[at])
        if whole is not None:
            encoded = whole.encode(chunk, part)
            yield from (take(encoded, slice(i, i + 1)) for i in range(len(chunk)))
            continue
        tokens, maps = see_frames(engine, reader, [s.frame for s in chunk])
        for i, (s, heat) in enumerate(zip(chunk, maps, strict=True)):
            seen = None if heat is None else (tokens[i : i + 1], heat[None])
            yield encode_frame(engine, reader, s, part.features[i], bool(part.known[i]), seen)


def encode_sensors(
    engine: Engine, times_s: Array, poses: NDArray[np.float64],
    imu: tuple[NDArray[np.float32], NDArray[np.bool_]] | None, *, floor_z: float | None, horizon_s: Array | None,
) -> StepArrays:  # fmt: skip
    """A clip without images, all steps at once."""
    motion = head_features(times_s, poses, floor_z=floor_z, horizon_s=horizon_s)
    return engine.encode(
        FrameArrays(motion.features, motion.known, None if imu is None else imu[0], None if imu is None else imu[1])
    )


def run_whole(engine: TorchEngine, times_s: Array, steps: StepArrays, *, lookahead: int | None) -> Said:
    """Finish all steps of a clip.

    Args:
        engine: The network in torch.
        times_s: (T,).
        steps: (T, ...).
        lookahead: Steps ahead that the first temporal layer sees, as one window however long the clip is; None
            sees both ways, in windows whose results are blended where they overlap.
    """
    config = engine.config
    n = times_s.size
    relative = times_s - times_s[0]
    if lookahead is not None or n <= WINDOW:
        first, rest = attention_masks(times_s, ring=config.ring, window_s=config.window_s, lookahead=lookahead)
        return engine.whole(steps, time_rotation(relative, config.dim // config.heads), first, rest)
    parts: list[tuple[int, Said]] = []
    start = 0
    while True:
        stop = min(n, start + WINDOW)
        at = slice(start, stop)
        first, rest = attention_masks(times_s[at], ring=config.ring, window_s=config.window_s, lookahead=None)
        rotation = time_rotation(relative[at] - relative[start], config.dim // config.heads)
        parts.append((start, engine.whole(take(steps, at), rotation, first, rest)))
        if stop == n:
            return _blend(parts, n)
        start = stop - OVERLAP


def _blend(parts: list[tuple[int, Said]], n: int) -> Said:
    """Weighted mean of overlapping windows; the weight falls linearly to the edge of a window."""
    total = np.zeros(n)
    sums: list[NDArray[np.float64]] = [np.zeros((n, *v.shape[1:])) for v in parts[0][1]]
    for start, said in parts:
        length = said.xyz.shape[0]
        up = np.minimum(1.0, (np.arange(length) + 0.5) / OVERLAP) if start else np.ones(length)
        down = np.minimum(1.0, (length - np.arange(length) - 0.5) / OVERLAP) if start + length < n else np.ones(length)
        weight = np.minimum(up, down)
        at = slice(start, start + length)
        total[at] += weight
        for total_value, value in zip(sums, said):
            total_value[at] += weight.reshape(-1, *(1,) * (value.ndim - 1)) * value
    return Said(*((s / total.reshape(-1, *(1,) * (s.ndim - 1))).astype(np.float32) for s in sums))


__all__ = ["Finished", "StepInput", "StreamSession", "concatenate", "encode_clip", "encode_sensors", "run_whole"]
