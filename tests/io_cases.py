"""One small valid file of every format that can be read, made from the same known scene."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import egopose
from egopose import rigid
from egopose.camera import Camera, Rig
from egopose.skeleton import BLAZEPOSE33, BODY17, BODY25, HAND21, HANDS42, HOLISTIC75

RNG = np.random.default_rng(11)
FRAMES = np.array([3, 6, 9, 15])


def ring(n: int = 3, fisheye: bool = False) -> Rig:
    """Cameras around the origin, looking at it, z up."""
    cameras = []
    for i in range(n):
        angle = 2 * np.pi * i / n
        centre = np.array([3 * np.cos(angle), 3 * np.sin(angle), 1.5])
        forward = np.array([0, 0, 1.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1.0])
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        K = np.array([[900.0 + i, 0, 640], [0, 905, 360], [0, 0, 1]])
        dist = [0.02, 0.01, -0.003, 0.001] if fisheye else [-0.1, 0.02, 1e-3, -2e-3, 0.005]
        cameras.append(
            Camera.from_opencv(K, dist, R, -R @ centre, (1280, 720), fisheye=fisheye, name=f"cam{i + 1:02d}")
        )
    return Rig(cameras)


def body_pose(T: int = 4, seed: int = 0, missing: bool = True) -> egopose.PoseSequence:
    """A standing figure of COCO joints that sways."""
    rng = np.random.default_rng(seed)
    rest = rng.normal(0, 0.25, (17, 3)) + np.array([0, 0, 1.0])
    xyz = rest + rng.normal(0, 0.01, (T, 17, 3))
    if missing:
        xyz[1, BODY17.index("nose")] = np.nan
    frames = FRAMES[:T] if len(FRAMES) >= T else np.arange(T)
    return egopose.PoseSequence(BODY17, frames, frames / 30, xyz.astype(np.float32))


def hands_pose(T: int = 4, seed: int = 1) -> egopose.PoseSequence:
    """Both hands in front of a camera; the left one is away in the second frame."""
    rng = np.random.default_rng(seed)
    xyz = rng.normal(0, 0.05, (T, 42, 3)) + np.array([0, 0, 0.4])
    xyz[1, HANDS42.indices([f"left_hand_{j}" for j in HAND21.joints])] = np.nan
    frames = FRAMES[:T]
    return egopose.PoseSequence(HANDS42, frames, frames / 30, xyz.astype(np.float32), space="camera:aria")


def observations(rig: Rig | None = None) -> egopose.Observations2D:
    """The body seen by the ring, one view blind in one frame."""
    rig = rig or ring()
    uv = rig.project(body_pose(missing=False).xyz)
    uv[1, 2] = np.nan
    score = np.where(np.isfinite(uv[..., 0]), 0.9, 0.0)
    return egopose.Observations2D(BODY17, tuple(rig.names), FRAMES, uv, score, sizes=tuple(c.size for c in rig))


def _toml(folder: Path) -> Path:
    egopose.save(ring(), folder / "rig.toml")
    return folder / "rig.toml"


def _native_rig(folder: Path) -> Path:
    egopose.save(ring(), folder / "rig.json")
    return folder / "rig.json"


def _opencv(folder: Path) -> Path:
    import cv2

    path = folder / "cams.yml"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for camera in ring():
        T = camera.T_camera_world
        storage.write(f"K_{camera.name}", camera.K)
        storage.write(f"dist_{camera.name}", camera.dist[None])
        storage.write(f"Rot_{camera.name}", T[:3, :3])
        storage.write(f"T_{camera.name}", T[:3, 3:])
        storage.write(f"image_size_{camera.name}", np.array(camera.size)[None])
    storage.release()
    return path


def _opencv_xml(folder: Path) -> Path:
    import cv2

    path = folder / "cam.xml"
    camera = ring()["cam01"]
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", camera.size[0])
    storage.write("image_height", camera.size[1])
    storage.write("camera_matrix", camera.K)
    storage.write("distortion_coefficients", camera.dist[:, None])
    storage.release()
    return path


def gopro_csv(rig: Rig, *, quality: dict[str, int] | None = None) -> str:
    """gopro_calibs.csv of a Kannala-Brandt rig."""
    pose = [f"{a}_world_cam" for a in ("tx", "ty", "tz", "qx", "qy", "qz", "qw")]
    header = ["cam_uid", "graph_uid", *pose, "image_width", "image_height", "intrinsics_type"]
    header += [f"intrinsics_{i}" for i in range(8)] + ["start_frame_idx", "end_frame_idx", "quality"]
    rows = [",".join(header)]
    for camera in rig:
        q = rigid.matrix_to_quaternion(camera.T_world_camera[:3, :3])
        cells: list[Any] = [camera.name, "graph", *camera.T_world_camera[:3, 3], *q, *camera.size, "KANNALABRANDTK3"]
        cells += [*camera.params, -1, -1, (quality or {}).get(str(camera.name), 1)]
        rows.append(",".join(str(cell) for cell in cells))
    return "\n".join(rows) + "\n"


def _gopro(folder: Path) -> Path:
    path = folder / "gopro_calibs.csv"
    path.write_text(gopro_csv(ring(fisheye=True)))
    return path


def camera_pose(rig: Rig, n_frames: int = 4, skip: tuple[int, ...] = ()) -> dict[str, Any]:
    """camera_pose of undistorted exo cameras and a walking head camera."""
    content: dict[str, Any] = {"metadata": {"take_name": "takes/x", "take_uid": "u"}}
    for camera in rig:
        K = np.array([[1230.0, 0, 1920], [0, 1230, 1080], [0, 0, 1]])
        content[str(camera.name)] = {
            "camera_intrinsics": K.tolist(),
            "camera_extrinsics": camera.T_camera_world[:3].tolist(),
            "distortion_coeffs": [0.04, 0.06, -0.06, 0.02],
        }
    head = {}
    for i in reversed(range(n_frames)):
        if i not in skip:
            T = rigid.make_transform(rigid.rotation_from_vector([0.1 * i, 0.2, 0.3]), [0.01 * i, 0.2, 1.6])
            head[str(i)] = rigid.invert(T)[:3].tolist()
    K = [[150, 0, 255.5], [0, 150, 255.5], [0, 0, 1]]
    content["aria01"] = {"camera_intrinsics": K, "camera_extrinsics": head}
    return content


def _camera_pose(folder: Path) -> Path:
    path = folder / "camera_pose.json"
    path.write_text(json.dumps(camera_pose(ring())))
    return path


def _panoptic(folder: Path) -> Path:
    cameras = [
        {"name": c.name, "type": "hd", "resolution": list(c.size), "K": c.K.tolist(), "distCoef": c.dist.tolist(),
         "R": c.T_camera_world[:3, :3].tolist(), "t": (100 * c.T_camera_world[:3, 3:]).tolist()}
        for c in ring()
    ]  # fmt: skip
    path = folder / "calibration_x.json"
    path.write_text(json.dumps({"calibDataSource": "x", "cameras": cameras}))
    return path


def _stereo_dat(folder: Path) -> Path:
    place = folder / "camera_parameters"
    place.mkdir()
    for i, c in enumerate(ring(2)):
        rows = "\n".join(" ".join(map(repr, row)) for row in c.K.tolist())
        place.joinpath(f"c{i}.dat").write_text(
            f"intrinsic:\n{rows}\ndistortion:\n{' '.join(map(repr, c.dist.tolist()))}\n"
        )
        T = c.T_camera_world
        rows = "\n".join(" ".join(map(repr, row)) for row in T[:3, :3].tolist())
        column = "\n".join(map(repr, T[:3, 3].tolist()))
        place.joinpath(f"rot_trans_c{i}.dat").write_text(f"R:\n{rows}\nT:\n{column}\n\n# more\nR:\n1 0 0\n")
    return place


def _qualisys(folder: Path) -> Path:
    flip = np.diag([1.0, -1, -1])
    parts = []
    for c in ring():
        R, centre, k = flip @ c.T_camera_world[:3, :3], 1000 * c.center_world, 64 * c.K
        r = " ".join(f'r{i + 1}{j + 1}="{R[i, j]!r}"' for i in range(3) for j in range(3)).replace("np.float64(", "")
        d = c.dist * 64
        parts.append(
            f'<camera active="1" serial="{c.name}" viewrotation="0">'
            f'<fov_video left="0" top="0" right="{c.size[0] - 1}" bottom="{c.size[1] - 1}"/>'
            f'<transform {r.replace(")", "")} x="{float(centre[0])}" y="{float(centre[1])}" z="{float(centre[2])}"/>'
            f'<intrinsic focalLengthU="{float(k[0, 0])}" focalLengthV="{float(k[1, 1])}" '
            f'centerPointU="{float(k[0, 2])}" centerPointV="{float(k[1, 2])}" skew="0.0" '
            f'radialDistortion1="{float(d[0])}" radialDistortion2="{float(d[1])}" '
            f'radialDistortion3="{float(d[4])}" tangentalDistortion1="{float(d[2])}" '
            f'tangentalDistortion2="{float(d[3])}"/></camera>'
        )
    path = folder / "x.qca.txt"
    path.write_text(
        f"<?xml version='1.0' encoding='ASCII'?>\n<calibration><cameras>{''.join(parts)}</cameras></calibration>"
    )
    return path


def _aria_calibration(folder: Path) -> Path:
    cameras = []
    for label, f in (("camera-slam-left", 240.0), ("camera-rgb", 1220.0)):
        size = 640 if "slam" in label else 2880
        params = [f, size / 2, 240 if "slam" in label else 1440, *np.linspace(-0.02, 0.02, 12)]
        cameras.append(
            {"Label": label, "Projection": {"Name": "FisheyeRadTanThinPrism", "Params": params},
             "T_Device_Camera": {"Translation": [0.01, -0.02, 0.03], "UnitQuaternion": [0.6, [0.0, 0.8, 0.0]]}}
        )  # fmt: skip
    path = folder / "online_calibration.jsonl"
    lines = [json.dumps({"tracking_timestamp_us": 1000 * i, "CameraCalibrations": cameras}) for i in (1, 2)]
    path.write_text("\n".join(lines) + "\n")
    return path


def _aria_trajectory(folder: Path) -> Path:
    names = [f"{a}_world_device" for a in ("tx", "ty", "tz", "qx", "qy", "qz", "qw")]
    rows = [",".join(["graph_uid", "tracking_timestamp_us", *names])]
    rows += [f"g,{1000 * i},{0.01 * i},0,1.6,0,0,0.6,0.8" for i in range(5)]
    path = folder / "closed_loop_trajectory.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def _aria_hands(folder: Path) -> Path:
    header = ["tracking_timestamp_us"]
    for side in ("left", "right"):
        header.append(f"{side}_tracking_confidence")
        header += [f"{a}_{side}_landmark_{i}_device" for i in range(21) for a in ("tx", "ty", "tz")]
    rows = [",".join(header)]
    for t in range(3):
        left = [0.9, *(0.001 * np.arange(63)).tolist()]
        right = [-1 if t == 1 else 0.8, *(0.002 * np.arange(63)).tolist()]
        rows.append(",".join(map(str, [1000 * (t + 1), *left, *right])))
    path = folder / "hand_tracking_results.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def openpose_people(points: np.ndarray, **more: Any) -> dict[str, Any]:
    """One OpenPose frame of (J, 3) points."""
    return {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": points.ravel().tolist(), **more}]}


def _openpose(folder: Path) -> Path:
    place = folder / "pose"
    seen = observations().to_skeleton(BODY25)
    for v, view in enumerate(seen.views):
        (place / f"{view}_json").mkdir(parents=True)
        for t, frame in enumerate(seen.frames):
            uv = np.nan_to_num(np.concatenate([seen.uv_px[v, t], seen.score[v, t][:, None]], axis=1))
            # BODY_25's own joints, so that the two sets of 25 can be told apart
            hips = uv[BODY25.indices(["left_hip", "right_hip"])]
            uv[BODY25.index("mid_hip")] = hips.mean(axis=0)
            path = place / f"{view}_json" / f"x_{frame:012d}_keypoints.json"
            path.write_text(json.dumps(openpose_people(uv)))
    return place


def _coco(folder: Path) -> Path:
    seen = observations()
    entries = []
    for v, view in enumerate(seen.views):
        for t, frame in enumerate(seen.frames):
            if seen.seen[v, t].any():
                points = np.concatenate([seen.uv_px[v, t], seen.score[v, t][:, None]], axis=1)
                entries.append({"image_id": f"{view}/img_{frame:05d}.jpg", "category_id": 1, "score": 0.9,
                                "keypoints": points.ravel().tolist()})  # fmt: skip
    path = folder / "results.json"
    path.write_text(json.dumps(entries))
    return path


def annotation() -> dict[str, Any]:
    """A body annotation: unsorted keys, an empty list, a bare NaN, an absent joint."""
    pose, seen = body_pose(), observations()
    content: dict[str, Any] = {}
    for t in (2, 0, 1, 3):
        three = {
            name.replace("_", "-"): dict(zip("xyz", map(float, pose.xyz[t, j])), num_views_for_3d=2 + j % 3)
            for j, name in enumerate(BODY17.joints)
            if np.isfinite(pose.xyz[t, j]).all()
        }
        two = {
            view: {
                name.replace("_", "-"): {"x": float(seen.uv_px[v, t, j, 0]), "y": float(seen.uv_px[v, t, j, 1]),
                                         "placement": "manual" if j % 2 else "auto"}
                for j, name in enumerate(BODY17.joints)
                if seen.seen[v, t, j]
            }
            for v, view in enumerate(seen.views)
        }  # fmt: skip
        content[str(FRAMES[t])] = [{"annotation3D": three, "annotation2D": two}]
    content["12"] = []
    content["3"][0]["annotation3D"]["left-knee"]["y"] = float("nan")
    return content


def _annotation(folder: Path) -> Path:
    path = folder / "0a1b-take.json"
    path.write_text(json.dumps(annotation()))
    return path


def _caliscope_xy(folder: Path) -> Path:
    seen = observations().to_skeleton(HOLISTIC75)
    rows = ["sync_index,port,frame_index,frame_time,point_id,img_loc_x,img_loc_y,obj_loc_x,obj_loc_y"]
    for v in range(3):
        for t, frame in enumerate(seen.frames):
            for j in range(len(BLAZEPOSE33.joints)):
                if seen.seen[v, t, j]:
                    u, w = seen.uv_px[v, t, j]
                    rows.append(f"{frame},{v},0,0.0,{j},{u},{w},,")
            rows.append(f"{frame},{v},0,0.0,612,10,10,,")
    path = folder / "xy_HOLISTIC.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def _caliscope_xyz(folder: Path) -> Path:
    rows = ["sync_index,object_id,keypoint_id,x_coord,y_coord,z_coord,frame_time"]
    rows += [f"{t},0,{k},{0.1 * k},{0.2 * k},{0.01 * t}," for t in (5, 6) for k in (0, 3, 4)]
    path = folder / "xyz_CHARUCO.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def _saved(name: str, make: Callable[[], Any], **options: Any) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        egopose.save(make(), folder / name, **options)
        return folder / name

    return build


EXAMPLES: dict[str, Callable[[Path], Path]] = {
    "anipose-toml": _toml,
    "aria-hand-tracking": _aria_hands,
    "aria-online-calibration": _aria_calibration,
    "aria-trajectory": _aria_trajectory,
    "c3d": _saved("x.c3d", lambda: body_pose().select(frames=[3, 6]).replace(frames=[3, 4], times_s=[0.1, 0.2])),
    "caliscope-xy": _caliscope_xy,
    "caliscope-xyz": _caliscope_xyz,
    "coco-keypoints": _coco,
    "ego-exo4d-annotation": _annotation,
    "ego-exo4d-body": _saved(
        "body.json",
        lambda: {"u1": body_pose(), "u2": body_pose(3, 5)},
        format="ego-exo4d-body",
        missing="nan",
        take_names={"u1": "takes/cooking_1", "u2": "takes/dance_2"},
    ),
    "ego-exo4d-hand": _saved(
        "hand.json", lambda: {"u1": hands_pose(), "u2": hands_pose(3, 4)}, format="ego-exo4d-hand"
    ),
    "ego-exo4d-camera-pose": _camera_pose,
    "ego-exo4d-gopro-calibs": _gopro,
    "keypoints-csv": _saved("points.csv", observations),
    "native": _saved("x.npz", body_pose),
    "native-rig": _native_rig,
    "opencv": _opencv,
    "openpose": _openpose,
    "panoptic-json": _panoptic,
    "parquet": _saved("x.parquet", body_pose),
    "pose-csv": _saved("poses.csv", body_pose),
    "qualisys": _qualisys,
    "stereo-dat": _stereo_dat,
    "trc": _saved("x.trc", body_pose),
}
OPTIONS: dict[str, dict[str, Any]] = {"stereo-dat": {"size": (1280, 720), "unit": 1.0}}
"""Options without which a format cannot be read."""
WARNS = ("aria-trajectory",)
"""Formats whose plain reading warns by design."""
