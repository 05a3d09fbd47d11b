"""One take: its cameras, head poses, clocks and annotations, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose import rigid
from egopose.camera import Camera
from egopose.clip import Clip
from egopose.ego_exo4d import aria
from egopose.ego_exo4d.cameras import ExoCamera, exo_cameras, read_raw, read_undistorted
from egopose.ego_exo4d.index import IndexedAnnotation
from egopose.ego_exo4d.layout import FPS, PARTS, SCENARIOS, Kind, Source, camera_pose_path
from egopose.errors import EgoposeError
from egopose.io.aria import read_online_calibration, read_trajectory
from egopose.io.ego_exo4d_headposes import read_head_extrinsics
from egopose.io.fields import read_csv
from egopose.observations import Observations2D
from egopose.pose import JointStatus, PoseSequence
from egopose.rig import Rig
from egopose.trajectory import Trajectory

if TYPE_CHECKING:
    from egopose.ego_exo4d.dataset import EgoExo4D

Policy = Literal["error", "skip", "interpolate"]
Track = Literal["body", "hand"]
AUTO_SCORE = 0.5
"""Score of a 2D joint that is a reprojection; a clicked one has 1."""


def missing_file(path: Path, what: str) -> EgoposeError:
    """The error for a file that a download part would bring."""
    return EgoposeError(f"{path}: not there; it comes with egoexo --parts {PARTS[what]}")


class Take:
    """One take of the dataset; made by :class:`~egopose.ego_exo4d.dataset.EgoExo4D`.

    Attributes:
        dataset: Where it belongs.
        uid: Take uid.
        name: Take name.
        split: "train", "val", "test" or None.
        benchmarks: Benchmarks that list it.
        info: Its entry of takes.json.
    """

    def __init__(
        self, dataset: EgoExo4D, info: Mapping[str, Any], split: str | None, benchmarks: Sequence[str]
    ) -> None:
        self.dataset, self.info, self.split = dataset, info, split
        self.uid, self.name = str(info["take_uid"]), str(info["take_name"])
        self.benchmarks = tuple(benchmarks)

    def __repr__(self) -> str:
        return f"Take({self.name}, {self.uid}, {self.split})"

    @property
    def folder(self) -> Path:
        """``takes/<name>`` under the root."""
        return self.dataset.root / str(self.info.get("root_dir") or f"takes/{self.name}")

    @property
    def scenario(self) -> str:
        """By the first digit of the task number, else "unknown"."""
        digits = str(self.info.get("task_id", ""))
        return SCENARIOS.get(int(digits[0]), "unknown") if digits[:1].isdigit() else "unknown"

    @property
    def capture(self) -> str | None:
        """Name of the capture it was cut from."""
        capture = self.info.get("capture")
        return capture.get("capture_name") if isinstance(capture, Mapping) else None

    def _cameras(self, ego: bool) -> list[str]:
        capture = self.info.get("capture")
        listed = capture.get("cameras", []) if isinstance(capture, Mapping) else []
        found = [c for c in listed if isinstance(c, Mapping) and bool(c.get("is_ego")) == ego]
        return [str(c["cam_id"]) for c in found if isinstance(c.get("cam_id"), str)]

    @property
    def exo_names(self) -> list[str]:
        """Exo cameras as takes.json lists them (``cam01`` or ``gp01``, by the site)."""
        return self._cameras(False)

    @property
    def aria_name(self) -> str:
        """Name of the head camera; documents write "aria", files "aria01"."""
        return next((name for name in self._cameras(True) if "aria" in name.lower()), "aria01")

    # cameras

    @property
    def camera_pose_file(self) -> Path:
        """Its camera_pose file."""
        return self.dataset.root / camera_pose_path(self.split or "train", self.uid)

    def _trajectory_file(self, name: str) -> Path:
        path = self.folder / "trajectory" / name
        if not path.is_file():
            raise missing_file(path, name)
        return path

    @cached_property
    def exo_cameras(self) -> Mapping[str, ExoCamera]:
        """Every exo camera that is listed or calibrated, with what is known of it; files that are absent leave None."""
        csv = self.folder / "trajectory" / "gopro_calibs.csv"
        raw = read_raw(csv) if csv.is_file() else {}
        poses = self.camera_pose_file
        return exo_cameras(self.exo_names, raw, read_undistorted(poses) if poses.is_file() else {})

    def rig(self, images: Literal["raw", "undistorted"], *, keep_bad: bool = False) -> Rig:
        """The usable exo cameras for one kind of images.

        Args:
            images: "raw" for the videos as recorded, "undistorted" for the pixels of the annotations.
            keep_bad: Keep cameras of bad or unknown quality.

        Raises:
            EgoposeError: No camera is left; the file that is missing is named.
        """
        if images not in ("raw", "undistorted"):
            raise EgoposeError(f"images is {images!r}; expected 'raw' or 'undistorted'")
        cameras = [
            camera
            for exo in self.exo_cameras.values()
            if (camera := exo.raw if images == "raw" else exo.undistorted) is not None
            and (keep_bad or exo.quality in (None, 1))
        ]
        if not cameras:
            if images == "raw":
                self._trajectory_file("gopro_calibs.csv")
            elif not self.camera_pose_file.is_file():
                raise missing_file(self.camera_pose_file, "camera_pose")
            raise EgoposeError(f"take {self.name}: no usable {images} exo camera; give keep_bad=True to keep bad ones")
        return Rig(cameras)

    # head

    @cached_property
    def head_extrinsics(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Frames (T,) with a pose, increasing, and their ``T_camera_world`` (T, 3, 4), landscape, as in the file."""
        if not self.camera_pose_file.is_file():
            raise missing_file(self.camera_pose_file, "camera_pose")
        poses = read_head_extrinsics(self.camera_pose_file)
        if not poses:
            raise EgoposeError(f"{self.camera_pose_file}: the head camera has no poses")
        frames = np.array(sorted(poses), dtype=np.int64)
        return frames, np.stack([poses[frame] for frame in frames.tolist()])

    def head_gaps(self) -> list[tuple[int, int]]:
        """Runs (first, last) of frames without a pose between the first and the last one that has one."""
        frames = self.head_extrinsics[0]
        wide = np.flatnonzero(np.diff(frames) > 1)
        return [(int(frames[i]) + 1, int(frames[i + 1]) - 1) for i in wide]

    def head_poses(
        self, frames: ArrayLike | None = None, *, policy: Policy = "error", max_gap_s: float = 0.5
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Poses of the landscape head camera.

        Args:
            frames: Frame numbers wanted; None = all from the first to the last pose.
            policy: For frames without a pose: "error" refuses, "skip" leaves them out, "interpolate" takes the pose
                between the neighbours on SE(3) when they are at most ``max_gap_s`` apart, else refuses. Frames before
                the first or after the last pose are never made up.
            max_gap_s: See ``policy``.

        Returns:
            Frame numbers (N,) and ``T_world_camera`` (N, 4, 4).

        Raises:
            EgoposeError: By the policy, or the poses are not rigid.
        """
        if policy not in ("error", "skip", "interpolate"):
            raise EgoposeError(f"policy is {policy!r}; expected 'error', 'skip' or 'interpolate'")
        have, extrinsics = self.head_extrinsics
        T = rigid.invert(rigid.check_transform(extrinsics, str(self.camera_pose_file), tolerance=1e-3))
        wanted = np.arange(have[0], have[-1] + 1) if frames is None else np.asarray(frames, dtype=np.int64)
        place = np.minimum(np.searchsorted(have, wanted), have.size - 1)
        there = have[place] == wanted
        if there.all():
            return wanted, T[place]
        if policy == "error":
            raise EgoposeError(
                f"take {self.name}: {int((~there).sum())} frames have no head pose, the first is "
                f"{wanted[~there][0]}; choose a policy: 'skip' or 'interpolate'"
            )
        if policy == "skip":
            return wanted[there], T[place[there]]
        path = Trajectory(have / FPS, T, max_gap_s=max_gap_s + 1.5 / FPS)
        # half a step beyond the ends would count as inside
        if wanted.size and (wanted.min() < have[0] or wanted.max() > have[-1]):
            raise EgoposeError(
                f"take {self.name}: head poses span frames {have[0]} to {have[-1]}; {wanted.min()} to {wanted.max()} "
                "were asked for and nothing is made up outside"
            )
        result = path.at(wanted / FPS)
        result[there] = T[place[there]]
        return wanted, result

    def frame_times_ns(self) -> NDArray[np.int64]:
        """Aria's capture time of every video frame, from the capture's timesync: row ``start + 1 + i`` is frame i.

        Raises:
            EgoposeError: The file or its column is missing, or the rows of the take are not in it.
        """
        path = self.dataset.root / "captures" / str(self.capture) / "timesync.csv"
        if not path.is_file():
            raise missing_file(path, "timesync.csv")
        column = f"{self.aria_name}_214-1_capture_timestamp_ns"
        table = read_csv(path, [column], what="timesync.csv")
        start, end = (self.info.get(f"timesync_{name}_idx") for name in ("start", "end"))
        if not isinstance(start, int) or not isinstance(end, int) or not -1 <= start < end <= table.n_rows:
            raise EgoposeError(
                f"{path}: {table.n_rows} rows, but take {self.name} wants rows {start} to {end} "
                "(timesync_start_idx, timesync_end_idx)"
            )
        texts = table.text(column)[start + 1 : end]
        try:
            return np.array([int(float(t)) if "." in t or "e" in t else int(t) for t in texts], dtype=np.int64)
        except (ValueError, OverflowError) as error:
            raise EgoposeError(f"{path}: column {column} has a cell that is no time ({error})") from error

    def device_trajectory(self) -> Trajectory:
        """The closed-loop path of the *device* at 1 kHz; times are seconds after frame 0 of the take."""
        path = self._trajectory_file("closed_loop_trajectory.csv")
        T_device_device = np.eye(4)
        return read_trajectory(path, T_device_camera=T_device_device, start_us=self._first_us())

    def _first_us(self) -> int:
        times = self.frame_times_ns()
        if not times.size:
            raise EgoposeError(f"take {self.name}: timesync.csv has no time for its first frame")
        return int(times[0]) // 1000

    @cached_property
    def aria_camera(self) -> Camera:
        """Landscape Fisheye624 camera of the 1408 px video, in the device frame, from online_calibration.jsonl."""
        rig = read_online_calibration(self._trajectory_file("online_calibration.jsonl"))
        return aria.video_camera(rig["camera-rgb"])

    def head_trajectory(self) -> Trajectory:
        """The landscape head camera at 1 kHz from the device path and the calibration; times as there."""
        return self.device_trajectory().moved(self.aria_camera.T_world_camera)

    # annotations

    def annotated(self, kind: Kind, source: Source) -> bool:
        """Whether a file is there."""
        return self.uid in self.dataset.index(kind, source)

    def raw_annotation(self, kind: Kind, source: Source = "manual") -> IndexedAnnotation:
        """The annotation as columns.

        Raises:
            EgoposeError: There is none (the part that brings it is named), or it is refused.
        """
        if not self.annotated(kind, source):
            if self.split == "test":
                raise EgoposeError(f"take {self.name}: the test split has no published {kind} annotation")
            raise EgoposeError(
                f"take {self.name}: no {source} {kind} annotation; it comes with egoexo --parts {PARTS[source]}, "
                "and not every take has one"
            )
        return self.dataset.index(kind, source)[self.uid]

    def joints_3d(self, kind: Kind, source: Source = "manual", *, min_views: int = 0) -> PoseSequence:
        """3D joints in the world.

        Args:
            kind: "body" or "hand".
            source: "manual" or "automatic".
            min_views: Joints from fewer views are missing (the hand protocol takes 3 for manual annotation).
        """
        raw = self.raw_annotation(kind, source)
        xyz, views = np.array(raw.xyz), raw.num_views
        if min_views > 0:
            xyz[views < min_views] = np.nan
        known = np.isfinite(xyz).all(-1)
        two = known & (views >= 0) & (views <= 2)
        status = np.where(known, np.where(two, JointStatus.TWO_VIEWS, JointStatus.OK), JointStatus.MISSING)
        return PoseSequence(
            raw.skeleton, np.array(raw.frames), raw.frames / FPS, xyz, status=status.astype(np.uint8), space="world",
            provenance={**self._origin(kind, source), "min_views": min_views},
        )  # fmt: skip

    def joints_2d(self, kind: Kind, source: Source = "manual", *, clicked_only: bool = False) -> Observations2D:
        """2D joints in undistorted pixels; reprojected ("auto") ones have score 0.5, clicked ones 1."""
        raw = self.raw_annotation(kind, source)
        uv = np.array(raw.uv_px)
        if clicked_only:
            uv[raw.placement != 1] = np.nan
        score = np.where(raw.placement == 2, np.float32(AUTO_SCORE), np.float32(1))
        score[~np.isfinite(uv).all(-1)] = 0
        sizes: list[tuple[int, int] | None] = []
        for view in raw.views:
            exo = self.exo_cameras.get(view)
            known = exo.undistorted.size if exo is not None and exo.undistorted is not None else None
            sizes.append((aria.LINEAR_SIZE, aria.LINEAR_SIZE) if "aria" in view else known)
        return Observations2D(
            raw.skeleton, raw.views, np.array(raw.frames), uv, score, fps=FPS, undistorted=True, sizes=tuple(sizes),
            provenance=self._origin(kind, source),
        )  # fmt: skip

    def _origin(self, kind: str, source: str) -> dict[str, Any]:
        return {
            "source": f"ego-exo4d {source} {kind}", "take_uid": self.uid, "take_name": f"takes/{self.name}",
            "split": self.split,
        }  # fmt: skip

    # videos and clips

    def video(self, camera: str) -> Path:
        """The frame-aligned video of a camera: full size where it is there, else a downscaled one.

        Raises:
            EgoposeError: There is none.
        """
        name = f"{camera}_214-1.mp4" if camera == self.aria_name else f"{camera}.mp4"
        folder = self.folder / "frame_aligned_videos"
        scaled = sorted((folder / "downscaled").glob("*"), key=lambda p: p.name, reverse=True)
        for place in (folder, *scaled):
            if (place / name).is_file():
                return place / name
        raise missing_file(folder / name, "videos")

    def clip(self, track: Track, *, policy: Policy = "interpolate") -> Clip:
        """The input that a track allows: the hand track images only, the body track images and head poses.

        Args:
            track: "body" or "hand".
            policy: For head poses that are missing; see :meth:`head_poses`.

        Raises:
            EgoposeError: Another track, or a file that it needs is missing.
        """
        if track not in ("body", "hand"):
            raise EgoposeError(f"track is {track!r}; expected 'body' or 'hand'")
        try:
            frames: Path | None = self.video(self.aria_name)
        except EgoposeError:
            if track == "hand":
                raise
            frames = None
        camera = self._video_camera(frames)
        if track == "hand":
            return Clip(frames=frames, camera=camera)
        numbers, T = self.head_poses(policy=policy)
        upright = T @ aria.upright_turn()
        return Clip(frames=frames, camera=camera, trajectory=Trajectory(numbers / FPS, upright))

    def _video_camera(self, video: Path | None) -> Camera | None:
        """The upright camera of the video; None without a calibration."""
        if not (self.folder / "trajectory" / "online_calibration.jsonl").is_file():
            return None
        camera = self.aria_camera.moved(np.eye(4)).rotated90(-1).moved(np.eye(4))
        if video is not None:
            from egopose.io.video import probe

            camera = camera.scaled(probe(video).size)
        return camera
