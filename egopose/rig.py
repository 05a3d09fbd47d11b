"""Named cameras of one recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.errors import EgoposeError
from egopose.rigid import Array

#: Median distance between cameras, metres, above which a rig is not a room, a yard or a wall: its unit is not metres.
LARGEST_BASELINE = 50.0


@dataclass(frozen=True, eq=False, repr=False)
class Rig:
    """Cameras of one recording in one world frame.

    Attributes:
        cameras: Cameras with unique names; nameless ones become ``cam01``, ``cam02`` ... by position.
        time_offsets_s: (C,) seconds to add to each camera's clock to get the time of the rig; None = zeros.

    Raises:
        EgoposeError: No camera, two of one name (raw and undistorted ones are different cameras and do not mix),
            or offsets that do not fit.
    """

    cameras: list[Camera]
    time_offsets_s: Array = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        try:
            cameras = list(self.cameras)
        except TypeError as error:
            raise EgoposeError(f"a rig takes a list of cameras; found {type(self.cameras).__name__}") from error
        if not cameras:
            raise EgoposeError("a rig without cameras; check that the calibration file names at least one")
        for i, camera in enumerate(cameras):
            if not isinstance(camera, Camera):
                raise EgoposeError(f"a rig takes cameras; entry {i} is {type(camera).__name__}")
            if camera.name is None:
                cameras[i] = camera.renamed(f"cam{i + 1:02d}")
        seen: dict[str, Camera] = {}
        for camera in cameras:
            name = str(camera.name)
            if name in seen:
                spaces = {seen[name].image_space, camera.image_space}
                if len(spaces) == 2:
                    raise EgoposeError(
                        f"camera {name!r} is given raw and undistorted; their pixels differ, keep the one that the "
                        "2D points were measured in"
                    )
                raise EgoposeError(f"two cameras are named {name!r}; names must be unique")
            seen[name] = camera
        offsets = np.zeros(len(cameras))
        if self.time_offsets_s is not None:
            offsets = np.array(self.time_offsets_s, dtype=np.float64)
            if offsets.shape != (len(cameras),) or not np.isfinite(offsets).all():
                raise EgoposeError(
                    f"time_offsets_s has shape {offsets.shape}; expected {len(cameras)} finite seconds, one per camera"
                )
        offsets.setflags(write=False)
        object.__setattr__(self, "cameras", cameras)
        object.__setattr__(self, "time_offsets_s", offsets)

    @property
    def names(self) -> list[str]:
        """Names in order."""
        return [str(camera.name) for camera in self.cameras]

    @property
    def image_space(self) -> str:
        """``"raw"``, ``"undistorted"`` or ``"mixed"``."""
        spaces = {camera.image_space for camera in self.cameras}
        return spaces.pop() if len(spaces) == 1 else "mixed"

    def __len__(self) -> int:
        return len(self.cameras)

    def __iter__(self) -> Iterator[Camera]:
        return iter(self.cameras)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Camera:
        if name not in self.names:
            raise EgoposeError(f"no camera named {name!r} in this rig; it has {', '.join(self.names)}")
        return self.cameras[self.names.index(name)]

    def subset(self, names: Iterable[str]) -> Rig:
        """The rig of these cameras, in this order."""
        chosen = [self[name] for name in names]
        index = [self.names.index(str(camera.name)) for camera in chosen]
        return Rig(chosen, self.time_offsets_s[index])

    def packed(self) -> tuple[NDArray[np.int64], Array, Array]:
        """For kernels: model codes (C,) int64, params (C, 20), T_camera_world (C, 3, 4)."""
        codes, params, poses = zip(*(camera.packed() for camera in self.cameras))
        return np.array(codes, dtype=np.int64), np.stack(params), np.stack(poses)

    def project(self, points: Any) -> Array:
        """World points (..., 3) into all cameras: (C, ..., 2) pixels, NaN where a camera cannot see them."""
        return np.stack([camera.project(points) for camera in self.cameras])

    def baselines(self) -> Array:
        """(C (C - 1) / 2,) distances between camera centres, metres."""
        centers = np.stack([camera.center_world for camera in self.cameras])
        i, j = np.triu_indices(len(centers), 1)
        with np.errstate(over="ignore"):
            return np.linalg.norm(centers[i] - centers[j], axis=-1)

    def check_units(self) -> str | None:
        """A note when the rig cannot be in metres, else None.

        Cameras that watch one person stand metres apart. A median distance above 50 says that translations are in
        millimetres or centimetres; the note gives what was seen and the likely unit.
        """
        distances = self.baselines()
        if distances.size == 0:
            return None
        median = float(np.median(distances))
        if median <= LARGEST_BASELINE:
            return None
        i, j = np.triu_indices(len(self), 1)
        far = int(np.argmax(distances))
        # 50 to 1500 fits cameras 0.5 to 15 m apart in centimetres, more fits millimetres
        unit, factor = ("millimetres", 1000) if median > 1000 else ("centimetres or millimetres", 100)
        return (
            f"the cameras are a median of {median:.4g} apart (farthest: {self.names[i[far]]} and {self.names[j[far]]}, "
            f"{distances[far]:.4g}); metres are expected, this looks like {unit}: divide the translations by "
            f"{factor}, or tell the reader the unit"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rig):
            return NotImplemented
        return self.cameras == other.cameras and np.array_equal(self.time_offsets_s, other.time_offsets_s)

    def __hash__(self) -> int:
        return hash((tuple(self.cameras), self.time_offsets_s.tobytes()))

    def __repr__(self) -> str:
        return f"Rig({len(self)} cameras: {', '.join(self.names)}; {self.image_space})"

    def to_dict(self) -> dict[str, Any]:
        """As builtins for JSON; :meth:`from_dict` gives the equal rig back."""
        return {
            "cameras": [camera.to_dict() for camera in self.cameras],
            "time_offsets_s": self.time_offsets_s.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "rig") -> Rig:
        """The rig that :meth:`to_dict` wrote.

        Raises:
            EgoposeError: A key is missing or its value does not fit.
        """
        cameras = data.get("cameras") if isinstance(data, Mapping) else None
        if not isinstance(cameras, Sequence) or isinstance(cameras, str):
            raise EgoposeError(f"{where}: not a rig; expected a mapping with a list under 'cameras'")
        built = [Camera.from_dict(camera, f"{where}: camera {i}") for i, camera in enumerate(cameras)]
        return cls(built, data.get("time_offsets_s"))  # type: ignore[arg-type]
