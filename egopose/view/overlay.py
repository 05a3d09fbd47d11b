"""Joints drawn over the recording through the camera's true lens, with the hands enlarged."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.errors import EgoposeError, EgoposeWarning, import_cv2
from egopose.io.video import VideoWriter, probe, read_frames
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import Skeleton
from egopose.trajectory import Trajectory
from egopose.view.scene import is_fine, joint_sides, match, root_mean_square_sigma

if TYPE_CHECKING:
    from egopose.camera import Camera, Rig

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

COLOURS = {"left": (40, 150, 230), "right": (245, 130, 40), "middle": (235, 235, 235)}
REFERENCE = (150, 160, 170)
SHADOW = (20, 20, 20)
# points per bone: a straight bone is a curve in a wide lens
_PIECES = 8
_SHIFT = 4


def joints_in_camera(
    pose: PoseSequence, camera: Camera, trajectory: Trajectory | None = None
) -> tuple[Array, NDArray[np.bool_]]:
    """Joints in the camera's frame, (T, J, 3) metres, and (T,) whether the camera's pose is known.

    Args:
        pose: Joints in the world or in this camera's frame.
        camera: Stands still at its own pose unless a trajectory moves it.
        trajectory: Head poses; times outside it or in a gap are not known.

    Raises:
        EgoposeError: The joints are in another frame.
    """
    xyz = pose.xyz.astype(np.float64)
    if pose.space.startswith("camera:"):
        return xyz, np.ones(pose.n_frames, dtype=bool)
    if pose.space != "world":
        raise EgoposeError(
            f"overlay: the joints are in the frame {pose.space!r}; expected 'world' or the camera's own frame"
        )
    if trajectory is None:
        return rigid.transform_points(rigid.invert(camera.T_world_camera), xyz), np.ones(pose.n_frames, dtype=bool)
    poses = trajectory.at(pose.times_s, gaps="nan", outside="nan")
    known: NDArray[np.bool_] = np.all(np.isfinite(poses), axis=(1, 2))
    inverse = np.full_like(poses, np.nan)
    inverse[known] = rigid.invert(poses[known])
    return rigid.transform_points(inverse, xyz), known


def choose_camera(rig: Rig | None, name: str | None, size: tuple[int, int], where: str) -> Camera:
    """The camera that took the images, at the images' size.

    Args:
        rig: The cameras.
        name: Which one; may be left out when there is only one.
        size: (width, height) of the images.
        where: Named in messages.

    Raises:
        EgoposeError: None, several, or a shape that does not fit the images.
    """
    if rig is None:
        raise EgoposeError(f"{where}: no camera; give the file with the camera's lens (--rig)")
    if name is None and len(rig.cameras) > 1:
        raise EgoposeError(f"{where}: which camera took it? choose one with --camera: {', '.join(rig.names)}")
    if name is not None and name not in rig.names:
        raise EgoposeError(f"{where}: the rig has no camera {name!r}; it has: {', '.join(rig.names)}")
    camera = rig.cameras[0 if name is None else rig.names.index(name)]
    if tuple(camera.size) == tuple(size):
        return camera
    said = (
        f"{where}: images are {size[0]} x {size[1]}, camera {camera.name!r} is calibrated for {camera.size[0]} x "
        f"{camera.size[1]}"
    )
    padding = np.subtract(camera.size, size)
    if (padding >= 0).all() and (padding < 16).all():
        # codecs fill images up to multiples of 16; the filling lies right and below, so pixels keep their places
        warnings.warn(f"{said}; the difference is taken for the filling of a codec", EgoposeWarning, stacklevel=2)
        return camera.cropped(0, 0, *size)
    ratio = (size[0] / camera.size[0]) / (size[1] / camera.size[1])
    if abs(ratio - 1) > 0.01:
        raise EgoposeError(f"{said}; turn, crop or calibrate it for these images")
    warnings.warn(f"{said}; the calibration is scaled to the images", EgoposeWarning, stacklevel=2)
    return camera.scaled(size)


def own_camera(pose: PoseSequence, rig: Rig | None, name: str | None) -> str | None:
    """The name given, or that of the rig's camera in whose frame the joints are."""
    own = pose.space.removeprefix("camera:")
    return own if name is None and rig is not None and own != pose.space and own in rig.names else name


def draw_joints(
    image: Image, camera: Camera, xyz_camera: Array, skeleton: Skeleton, status: NDArray[np.uint8] | None, *,
    sigma: Array | None = None, origin: tuple[float, float] = (0.0, 0.0), zoom: float = 1.0, thick: float = 1.0,
) -> None:  # fmt: skip
    """Draw one skeleton into an image, in place.

    Args:
        image: (H, W, 3) uint8 RGB, contiguous.
        camera: The lens.
        xyz_camera: (J, 3) joints in the camera's frame, NaN where unknown.
        skeleton: Their names and bones.
        status: (J,) status codes; None draws a quiet reference.
        sigma: (J,) metres, drawn as circles.
        origin: Pixel (u, v) of the full image that lies at this image's top left corner.
        zoom: Pixels of this image per pixel of the full image.
        thick: Scale of lines and dots.
    """
    cv2 = import_cv2()

    def place(uv: Array) -> Array:
        return (uv - origin + 0.5) * zoom - 0.5

    def fixed(uv: Array) -> NDArray[np.int32]:
        # far outside the image cv2's fixed point would overflow
        return np.clip(np.rint(uv * 2**_SHIFT), -(2**20), 2**20).astype(np.int32)

    sides, fine = joint_sides(skeleton), is_fine(skeleton)
    reference = status is None
    for a, b in skeleton.bones:
        ends = xyz_camera[[a, b]]
        if not np.isfinite(ends).all():
            continue
        along = np.linspace(0, 1, _PIECES + 1)[:, None]
        uv = place(camera.project(ends[0] * (1 - along) + ends[1] * along, frame="camera"))
        side = sides[b] if sides[a] == sides[b] else "middle"
        colour = REFERENCE if reference else COLOURS[side]
        width = max(1, round(thick * (1 if reference or (fine[a] and fine[b]) else 2.4)))
        pieces = [
            (fixed(uv[k]).tolist(), fixed(uv[k + 1]).tolist())
            for k in range(0, _PIECES, 2 if reference else 1)
            if np.isfinite(uv[k : k + 2]).all()
        ]
        # the whole shadow first, or each piece would shade the one before
        for shade, extra in ((SHADOW, 2), (colour, 0)):
            for p, q in pieces:
                if not (reference and extra):
                    cv2.line(image, p, q, shade, width + extra, cv2.LINE_AA, _SHIFT)
    uv = place(camera.project(xyz_camera, frame="camera"))
    for j in np.flatnonzero(np.isfinite(uv).all(axis=1)):
        centre = fixed(uv[j]).tolist()
        colour = REFERENCE if reference else COLOURS[sides[j]]
        radius = thick * (1.6 if fine[j] else 3.6) * (0.6 if reference else 1.0)
        if sigma is not None and np.isfinite(sigma[j]):
            spread = zoom * _pixels_per_metre(camera, xyz_camera[j]) * float(sigma[j])
            if radius < spread < 4000:
                cv2.circle(image, centre, round(spread * 2**_SHIFT), colour, 1, cv2.LINE_AA, _SHIFT)
        weak = not reference and status is not None and status[j] != JointStatus.OK
        cv2.circle(image, centre, round((radius + 1) * 2**_SHIFT), SHADOW, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(image, centre, round(radius * 2**_SHIFT), colour, 1 if weak else -1, cv2.LINE_AA, _SHIFT)


def _pixels_per_metre(camera: Camera, point: Array) -> float:
    """How many pixels a metre across the view measures at a point, through the lens."""
    step = 1e-3 * float(np.linalg.norm(point))
    across = np.cross(point, [0.0, 1.0, 0.0])
    across *= step / max(float(np.linalg.norm(across)), 1e-12)
    uv = camera.project(np.stack([point - across, point + across]), frame="camera")
    return float(np.linalg.norm(uv[1] - uv[0])) / (2 * step) if np.isfinite(uv).all() else 0.0


def hand_joints(skeleton: Skeleton, side: str) -> list[int]:
    """Indices of the joints of one hand of a whole body."""
    return [i for i, joint in enumerate(skeleton.joints) if joint.startswith(f"{side}_hand_")]


def overlay_frame(
    image: Image, camera: Camera, xyz_camera: Array, skeleton: Skeleton, status: NDArray[np.uint8], *,
    sigma: Array | None = None, reference: tuple[Array, Skeleton] | None = None, caption: str = "", hands: bool = True,
) -> Image:  # fmt: skip
    """One image with joints, the hands enlarged in the lower corners, and a caption.

    Args:
        image: (H, W, 3) uint8 RGB; left as it is.
        camera: The lens, at the image's size.
        xyz_camera: (J, 3) joints in the camera's frame.
        skeleton: Their names and bones.
        status: (J,) status codes.
        sigma: (J,) metres.
        reference: Joints and skeleton of a second sequence.
        caption: Text at the top.
        hands: Enlarge the hands.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    result = np.ascontiguousarray(image).copy()
    thick = max(0.6, height / 720)
    if reference is not None:
        draw_joints(result, camera, reference[0], reference[1], None, thick=thick)
    draw_joints(result, camera, xyz_camera, skeleton, status, sigma=sigma, thick=thick)
    if hands:
        panel = min(height // 3, width // 3)
        for side, corner in (("left", 0), ("right", width - panel)):
            inset = _hand_inset(image, camera, xyz_camera, skeleton, status, sigma, reference, side, panel)
            if inset is not None:
                result[height - panel :, corner : corner + panel] = inset
    if caption:
        _text(result, caption, (round(10 * thick), round(24 * thick)), 0.6 * thick)
    return result


def _text(image: Image, text: str, at: tuple[int, int], scale: float) -> None:
    cv2 = import_cv2()
    plain = text.encode("ascii", "replace").decode("ascii")
    for colour, extra in ((SHADOW, 3), ((255, 255, 255), 0)):
        cv2.putText(image, plain, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, max(1, round(scale * 1.6)) + extra,
                    cv2.LINE_AA)  # fmt: skip


def _hand_inset(
    image: Image, camera: Camera, xyz: Array, skeleton: Skeleton, status: NDArray[np.uint8], sigma: Array | None,
    reference: tuple[Array, Skeleton] | None, side: str, panel: int,
) -> Image | None:  # fmt: skip
    """A square around one hand, enlarged and drawn anew; None when the hand is not in the picture."""
    cv2 = import_cv2()
    joints = hand_joints(skeleton, side)
    uv = camera.project(xyz[joints], frame="camera") if joints else np.empty((0, 2))
    uv = uv[np.isfinite(uv).all(axis=1)]
    height, width = image.shape[:2]
    inside = (uv[:, 0] > 0) & (uv[:, 0] < width - 1) & (uv[:, 1] > 0) & (uv[:, 1] < height - 1)
    if inside.sum() < 3 or panel < 48:
        return None
    low, high = uv[inside].min(axis=0), uv[inside].max(axis=0)
    half = max(0.65 * float((high - low).max()), 12.0)
    zoom = panel / (2 * half)
    if zoom < 1.2:
        return None
    corner = 0.5 * (low + high) - half
    # pixel centres are at integers: (u - corner + 0.5) * zoom - 0.5
    M = np.array([[zoom, 0, (0.5 - corner[0]) * zoom - 0.5], [0, zoom, (0.5 - corner[1]) * zoom - 0.5]])
    inset: Any = np.ascontiguousarray(cv2.warpAffine(image, M, (panel, panel), flags=cv2.INTER_LINEAR))
    place = (float(corner[0]), float(corner[1]))
    thick = max(0.8, panel / 200)
    if reference is not None:
        draw_joints(inset, camera, reference[0], reference[1], None, origin=place, zoom=zoom, thick=thick)
    draw_joints(inset, camera, xyz, skeleton, status, sigma=sigma, origin=place, zoom=zoom, thick=thick)
    cv2.rectangle(inset, (0, 0), (panel - 1, panel - 1), COLOURS[side], 2)
    _text(inset, f"{side} hand {zoom:.1f}x", (8, max(14, panel // 12)), panel / 420)
    return inset


def overlay_video(
    path: str | os.PathLike[str], clip: str | os.PathLike[str], pose: PoseSequence, *, rig: Rig | None = None,
    camera: str | None = None, trajectory: Trajectory | None = None, against: PoseSequence | None = None,
    hands: bool = True, progress: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """Write the recording with the joints drawn over it; frames are matched by time.

    Args:
        path: The video to write.
        clip: The recording.
        pose: Joints on the recording's clock.
        rig: Holds the camera that took the recording.
        camera: Its name, when the rig has several.
        trajectory: Poses of a moving camera.
        against: A second sequence, drawn dashed.
        hands: Enlarge the hands in the lower corners.
        progress: Called with the share done and what is going on.

    Returns:
        ``{"frames": images written, "with_joints": images with joints}``.

    Raises:
        EgoposeError: No or the wrong camera, not a video, or no frame of it has joints.
    """
    if pose.n_frames == 0:
        raise EgoposeError("overlay: the sequence holds no frames; there is nothing to draw")
    info = probe(clip)
    lens = choose_camera(rig, own_camera(pose, rig, camera), info.size, str(clip))
    other = None if against is None else match(pose, against)
    xyz, known = joints_in_camera(pose, lens, trajectory)
    second = None if other is None else joints_in_camera(other, lens, trajectory)[0]
    sigma, status = root_mean_square_sigma(pose), np.asarray(pose.status)
    tolerance = 0.51 / max(info.fps, 1e-6)
    inside = np.flatnonzero(
        (info.times_s >= pose.times_s[0] - tolerance) & (info.times_s <= pose.times_s[-1] + tolerance)
    )
    if not inside.size:
        raise EgoposeError(
            f"{clip}: spans {info.times_s[0]:.2f} s to {info.times_s[-1]:.2f} s, the joints {pose.times_s[0]:.2f} s to "
            f"{pose.times_s[-1]:.2f} s; they must share one clock"
        )
    drawn = 0
    with VideoWriter(path, info.fps) as writer:
        for n, frame in enumerate(read_frames(clip, start=int(inside[0]), stop=int(inside[-1]) + 1)):
            image = frame.image
            t = int(np.argmin(np.abs(pose.times_s - frame.time_s)))
            if abs(pose.times_s[t] - frame.time_s) <= tolerance and known[t]:
                caption = f"frame {pose.frames[t]}  {pose.times_s[t]:.2f} s  {int(pose.valid[t].sum())}/{pose.n_joints}"
                image = overlay_frame(
                    image, lens, xyz[t], pose.skeleton, status[t], sigma=None if sigma is None else sigma[t],
                    reference=None if second is None or other is None else (second[t], other.skeleton),
                    caption=caption, hands=hands,
                )  # fmt: skip
                drawn += 1
            writer.add(image)
            if progress is not None:
                progress((n + 1) / inside.size, "overlay video")
    return {"frames": int(inside.size), "with_joints": drawn}
