"""Camera models: calibrated cameras that project, unproject, scale, turn and undistort; rigs of them.

Axes: x right, y down, z forward. Pixels: u to the right, v down, pixel centres at integers, so an image covers
[-0.5, width - 0.5] x [-0.5, height - 0.5]. Poses are ``T_world_camera`` (camera to world), metres. The numeric work
is in :mod:`egopose.kernels.projection`, loaded on first use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.errors import EgoposeError
from egopose.intrinsics import MODELS, OPENCV_COUNTS, check_parameters, image_size, opencv_parts, vector
from egopose.rigid import Array, check_transform, invert

if TYPE_CHECKING:
    from egopose.rig import Rig

ImageSpace = Literal["raw", "undistorted"]


@dataclass(frozen=True, eq=False, repr=False)
class Camera:
    """A calibrated camera.

    Attributes:
        model: ``"pinhole"``, ``"brown_conrady"`` (OpenCV's perspective model), ``"kannala_brandt"`` (OpenCV's
            fisheye, KANNALABRANDTK3 of Project Aria) or ``"fisheye624"`` (Project Aria).
        size: (width, height) of the image, pixels.
        params: fx, fy, cx, cy in pixels, then the coefficients of the model in their usual order: none; k1 k2 p1 p2
            [k3 [k4 k5 k6 [s1 s2 s3 s4 [tx ty]]]]; k1 k2 k3 k4; k0..k5 p0 p1 s0 s1 s2 s3. Missing Brown-Conrady
            coefficients are zero.
        T_world_camera: (4, 4) float64, camera to world, metres; None = identity.
        name: Name within a rig.
        image_space: ``"raw"`` pixels of the lens, or ``"undistorted"`` pixels of an image that was remapped.
        max_angle: Largest angle from the optical axis that the lens sees, radians; None = as far as the model goes.

    Raises:
        EgoposeError: Unknown model, wrong number of parameters, non-finite calibration, non-positive focal length
            or size, bad rotation.
    """

    model: str
    size: tuple[int, int]
    params: Array
    T_world_camera: Array = None  # type: ignore[assignment]
    name: str | None = None
    image_space: ImageSpace = "raw"
    max_angle: float | None = None
    _cache: dict[str, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        where = f"camera {self.name!r}" if self.name is not None else "camera"
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            raise EgoposeError(f"a camera is named {self.name!r}; expected a non-empty text or None")
        if self.image_space not in ("raw", "undistorted"):
            raise EgoposeError(f"{where}: image_space is {self.image_space!r}; expected 'raw' or 'undistorted'")
        params = check_parameters(self.model, self.params, where)
        T = np.eye(4) if self.T_world_camera is None else check_transform(self.T_world_camera, where)
        if T.shape != (4, 4):
            raise EgoposeError(f"{where}: T_world_camera has shape {T.shape}; expected one transform (4, 4)")
        if self.max_angle is not None and not 0 < self.max_angle <= math.pi:
            raise EgoposeError(f"{where}: max_angle is {self.max_angle!r}; expected radians in (0, pi] or None")
        params.setflags(write=False)
        T.setflags(write=False)
        object.__setattr__(self, "size", image_size(self.size, where))
        object.__setattr__(self, "params", params)
        object.__setattr__(self, "T_world_camera", T)
        object.__setattr__(self, "max_angle", None if self.max_angle is None else float(self.max_angle))

    # Constructors

    @classmethod
    def from_opencv(
        cls,
        K: ArrayLike,
        dist: ArrayLike | None,
        R: ArrayLike,
        t: ArrayLike,
        size: tuple[int, int],
        *,
        fisheye: bool = False,
        name: str | None = None,
        image_space: ImageSpace = "raw",
        max_angle: float | None = None,
    ) -> Camera:
        """A camera from OpenCV's conventions.

        Args:
            K: (3, 3) intrinsic matrix without skew.
            dist: None, or 4, 5, 8, 12 or 14 coefficients (k1 k2 p1 p2 k3 ...); with ``fisheye`` 4 of ``cv2.fisheye``.
            R: World to camera: (3, 3), or a Rodrigues vector of 3 (radians).
            t: World to camera: 3 numbers, metres.
            size: (width, height) pixels.
            fisheye: The coefficients belong to ``cv2.fisheye``.
            name: Name within a rig.
            image_space: See :class:`Camera`.
            max_angle: See :class:`Camera`.

        Raises:
            EgoposeError: Anything that does not fit.
        """
        where = f"camera {name!r}" if name is not None else "camera"
        model, params, T_camera_world = opencv_parts(K, dist, R, t, fisheye, where)
        return cls(model, size, params, invert(T_camera_world), name, image_space, max_angle)

    @classmethod
    def pinhole(
        cls,
        focal: float | Sequence[float],
        center: Sequence[float] | None,
        size: tuple[int, int],
        T_world_camera: ArrayLike | None = None,
        *,
        name: str | None = None,
        image_space: ImageSpace = "raw",
    ) -> Camera:
        """A camera without distortion; ``focal`` one or two numbers, ``center`` None = middle of the image, pixels."""
        w, h = image_size(size, "pinhole camera")
        center = ((w - 1) / 2, (h - 1) / 2) if center is None else center
        params = np.concatenate([np.broadcast_to(vector(focal, "focal length"), 2), vector(center, "center")])
        return cls("pinhole", (w, h), params, T_world_camera, name, image_space)  # type: ignore[arg-type]

    @classmethod
    def fisheye624(
        cls,
        params: ArrayLike,
        size: tuple[int, int],
        T_world_camera: ArrayLike | None = None,
        *,
        name: str | None = None,
        max_angle: float | None = None,
    ) -> Camera:
        """A camera of Project Aria: 15 numbers f cu cv k0..k5 p0 p1 s0..s3, or 16 with fx fy in place of f."""
        values = vector(params, "fisheye624 params")
        if values.size == 15:
            values = np.concatenate([values[:1], values])
        return cls("fisheye624", size, values, T_world_camera, name, "raw", max_angle)  # type: ignore[arg-type]

    # Properties

    @property
    def where(self) -> str:
        """How messages call this camera."""
        return f"camera {self.name!r}" if self.name is not None else "camera"

    @property
    def K(self) -> Array:
        """(3, 3) intrinsic matrix, pixels."""
        fx, fy, cx, cy = self.params[:4]
        return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])

    @property
    def dist(self) -> Array:
        """Coefficients: the shortest of OpenCV's 4, 5, 8, 12, 14 for Brown-Conrady, 4 zeros for pinhole, else all."""
        if self.model == "pinhole":
            return np.zeros(4)
        if self.model == "brown_conrady":
            needed = int(np.max(np.nonzero(self.params[4:])[0], initial=-1)) + 1
            return self.params[4 : 4 + next(n for n in OPENCV_COUNTS if n >= needed)].copy()
        return self.params[4:].copy()

    @property
    def T_camera_world(self) -> Array:
        """(4, 4) world to camera."""
        return invert(self.T_world_camera)

    @property
    def center_world(self) -> Array:
        """(3,) position of the camera in the world, metres."""
        return self.T_world_camera[:3, 3].copy()

    def packed(self) -> tuple[int, Array, Array]:
        """For kernels: (model code, params (20,), T_camera_world (3, 4)), float64; treat them as read-only."""
        if "packed" not in self._cache:
            from egopose.kernels.projection import with_limit

            code = MODELS[self.model][0]
            params = with_limit(code, self.params, self.max_angle)
            T = np.ascontiguousarray(self.T_camera_world[:3])
            self._cache["packed"] = (code, params, T)
        return self._cache["packed"]

    @property
    def valid_angle(self) -> float:
        """Largest angle from the optical axis that projects, radians (pi/2 for an unbounded perspective model)."""
        code, params, _ = self.packed()
        if code >= 2:
            return float(params[18])
        return math.atan(params[18]) if params[18] > 0 else math.pi / 2

    # Points and pixels

    def project(self, points: ArrayLike, *, frame: Literal["world", "camera"] = "world") -> Array:
        """Points to pixels.

        Args:
            points: (..., 3), metres.
            frame: The frame of the points.

        Returns:
            (..., 2) float64 pixels; NaN behind the camera, beyond the valid range, or where the point is NaN. Pixels
            outside the image are kept: see :meth:`visible`.
        """
        from egopose.kernels.projection import project_batch

        p = self._points(points, 3, "points")
        code, params, T = self.packed()
        flat = p.reshape(-1, 3)
        if frame == "world":
            flat = flat @ T[:, :3].T + T[:, 3]
        elif frame != "camera":
            raise EgoposeError(f"frame is {frame!r}; expected 'world' or 'camera'")
        uv, ok = np.empty((len(flat), 2)), np.empty(len(flat), dtype=np.bool_)
        project_batch(code, params, np.ascontiguousarray(flat), uv, ok)
        return uv.reshape(*p.shape[:-1], 2)

    def visible(self, points: ArrayLike, *, frame: Literal["world", "camera"] = "world") -> NDArray[np.bool_]:
        """Whether points (..., 3) project into the image (and so lie in front, within the valid range)."""
        return self.in_image(self.project(points, frame=frame))

    def in_image(self, uv_px: ArrayLike) -> NDArray[np.bool_]:
        """Whether pixels (..., 2) lie in [-0.5, width - 0.5] x [-0.5, height - 0.5]; NaN does not."""
        uv = self._points(uv_px, 2, "uv_px")
        w, h = self.size
        return np.asarray(((uv >= -0.5) & (uv <= (w - 0.5, h - 0.5))).all(axis=-1), dtype=np.bool_)

    def unproject(self, uv_px: ArrayLike) -> Array:
        """Pixels (..., 2) to unit rays (..., 3) of the camera frame, float64; NaN where the model has no inverse."""
        from egopose.kernels.projection import unproject_batch

        uv = self._points(uv_px, 2, "uv_px")
        code, params, _ = self.packed()
        flat = np.ascontiguousarray(uv.reshape(-1, 2))
        rays, ok = np.empty((len(flat), 3)), np.empty(len(flat), dtype=np.bool_)
        unproject_batch(code, params, flat, rays, ok)
        return rays.reshape(*uv.shape[:-1], 3)

    def rays_world(self, uv_px: ArrayLike) -> tuple[Array, Array]:
        """Pixels (..., 2) to rays of the world: origin (3,) metres, unit directions (..., 3)."""
        return self.center_world, self.unproject(uv_px) @ self.T_world_camera[:3, :3].T

    def _points(self, values: ArrayLike, width: int, what: str) -> Array:
        try:
            array = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise EgoposeError(f"{self.where}: {what} are not numbers of shape (..., {width})") from error
        if array.ndim == 0 or array.shape[-1] != width:
            raise EgoposeError(f"{self.where}: {what} have shape {array.shape}; expected (..., {width})")
        return array

    # Other images of the same lens

    def moved(self, T_world_camera: ArrayLike) -> Camera:
        """The same camera at another pose (4, 4), camera to world."""
        camera = replace(self, T_world_camera=np.array(T_world_camera, dtype=np.float64))
        if "packed" in self._cache:
            # the valid range of the lens is costly to find and stays
            code, params, _ = self._cache["packed"]
            camera._cache["packed"] = (code, params, np.ascontiguousarray(camera.T_camera_world[:3]))
        return camera

    def renamed(self, name: str | None) -> Camera:
        """The same camera under another name."""
        return replace(self, name=name)

    def scaled(self, size: tuple[int, int]) -> Camera:
        """The camera of the image resized to (width, height); pixel centres are at integers."""
        from egopose.lens import scaled

        return scaled(self, image_size(size, self.where))

    def cropped(self, x0: int, y0: int, width: int, height: int) -> Camera:
        """The camera of ``image[y0 : y0 + height, x0 : x0 + width]``; negative starts pad."""
        from egopose.lens import cropped

        return cropped(self, x0, y0, image_size((width, height), self.where))

    def rotated90(self, k: int) -> Camera:
        """The camera of ``np.rot90(image, k)``: k quarter turns counter-clockwise, negative is clockwise.

        The camera frame turns with the image, the projection of every world point moves with it.

        Raises:
            EgoposeError: A sensor tilted about both axes, whose quarter turn the model cannot express.
        """
        from egopose.lens import rotated90

        return rotated90(self, k)

    def undistorted(
        self,
        size: tuple[int, int] | None = None,
        *,
        K: ArrayLike | None = None,
        balance: float = 0.0,
        alpha: float = 0.0,
        fov_scale: float = 1.0,
    ) -> Camera:
        """A pinhole camera at the same pose for images remapped free of distortion.

        Args:
            size: (width, height) of the remapped image; None = that of this camera.
            K: (3, 3) intrinsic matrix of the remapped image; None = chosen from the lens: for the fisheyes by the
                rule of ``cv2.fisheye.estimateNewCameraMatrixForUndistortRectify`` (``balance``, ``fov_scale``), else
                by that of ``cv2.getOptimalNewCameraMatrix`` (``alpha``).
            balance: 0 = no empty border, 1 = all edge midpoints kept (Ego-Exo4D uses 0.8).
            alpha: 0 = only pixels that exist, 1 = all pixels kept.
            fov_scale: Divides the focal length of the fisheye rule.

        Raises:
            EgoposeError: The edge of the image lies outside the valid range of the model; give ``K``.
        """
        from egopose.lens import undistorted

        return undistorted(self, size, K, balance=balance, alpha=alpha, fov_scale=fov_scale)

    # Comparison and files

    def _key(self) -> tuple[Any, ...]:
        pose = (self.params.tobytes(), self.T_world_camera.tobytes())
        return (self.model, self.size, self.name, self.image_space, self.max_angle, *pose)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Camera) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def __repr__(self) -> str:
        fx, fy, cx, cy = self.params[:4]
        named = f"{self.name!r}, " if self.name is not None else ""
        dist = "" if self.model == "pinhole" else f", dist=[{', '.join(f'{c:.4g}' for c in self.dist)}]"
        at = ", ".join(f"{c:.3f}" for c in self.center_world + 0.0)
        return (
            f"Camera({named}{self.model}, {self.size[0]}x{self.size[1]}, f=({fx:.2f}, {fy:.2f}), "
            f"c=({cx:.2f}, {cy:.2f}){dist}, at=({at}), {self.image_space})"
        )

    def to_dict(self) -> dict[str, Any]:
        """As builtins for JSON; :meth:`from_dict` gives the equal camera back."""
        return {
            "model": self.model,
            "size": list(self.size),
            "intrinsics": self.params[:4].tolist(),
            "coefficients": [] if self.model == "pinhole" else self.dist.tolist(),
            "T_world_camera": self.T_world_camera.tolist(),
            "name": self.name,
            "image_space": self.image_space,
            "max_angle_rad": self.max_angle,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "camera") -> Camera:
        """The camera that :meth:`to_dict` wrote.

        Raises:
            EgoposeError: A key is missing or its value does not fit.
        """
        try:
            params = np.concatenate([vector(data["intrinsics"], where), vector(data.get("coefficients") or [], where)])
            camera = cls(
                data["model"],
                data["size"],
                params,
                data.get("T_world_camera"),  # type: ignore[arg-type]
                data.get("name"),
                data.get("image_space", "raw"),
                data.get("max_angle_rad"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise EgoposeError(f"{where}: not a camera ({error!r}); expected model, size, intrinsics ...") from error
        return camera


def __getattr__(name: str) -> Any:
    if name == "Rig":  # built on Camera and offered here too; an import at the top would be a circle
        from egopose.rig import Rig

        return Rig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["MODELS", "Camera", "ImageSpace", "Rig"]
