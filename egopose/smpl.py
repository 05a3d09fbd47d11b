"""SMPL, SMPL-H, SMPL-X and MANO results as our joints, through the user's own model files (extra ``[smplx]``).

The smplx package and the model files carry a non-commercial licence: nothing of them is shipped or needed anywhere
else in this package.

Bias: the joints of these models are centres of rotation inside the body, while COCO annotators click on what they
see. Hips lie lower and closer together in COCO than the femoral heads of SMPL's skeleton, shoulders lie on the
surface above the humeral head, and so on: differences of some centimetres that no alignment removes. Scores against
clicked or triangulated COCO joints therefore have a floor of that size. ``offset`` takes a correction learned on
frames where both are known (:func:`fit_offset`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose import rigid
from egopose.errors import EgoposeError, require
from egopose.npz import read_npz
from egopose.pose import PoseSequence
from egopose.skeleton import BODY17, BODY17_HANDS, HANDED, Skeleton

Kind = Literal["smpl", "smplh", "smplx", "mano_left", "mano_right"]

# number of posed joints, then of the vertex joints that the smplx package appends
_MODEL_JOINTS = {"smpl": 24, "smplh": 52, "smplx": 55, "mano_left": 16, "mano_right": 16}
_FACE = ("nose", "right_eye", "left_eye", "right_ear", "left_ear")
_FEET = 6
_TIPS = ("thumb", "index", "middle", "ring", "pinky")
# the models order fingers index, middle, pinky, ring, thumb
_FINGER_ORDER = ("index", "middle", "pinky", "ring", "thumb")
_BODY = {
    "left_hip": 1, "right_hip": 2, "left_knee": 4, "right_knee": 5, "left_ankle": 7, "right_ankle": 8,
    "left_shoulder": 16, "right_shoulder": 17, "left_elbow": 18, "right_elbow": 19, "left_wrist": 20, "right_wrist": 21,
}  # fmt: skip
_MANO_TIP_VERTICES = {"thumb": 744, "index": 320, "middle": 443, "ring": 554, "pinky": 671}

_KEYS = {
    "common": ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table"),
    "smpl": (),
    "smplh": ("hands_componentsl", "hands_componentsr", "hands_meanl", "hands_meanr"),
    "smplx": (
        "hands_componentsl", "hands_componentsr", "hands_meanl", "hands_meanr", "lmk_faces_idx", "lmk_bary_coords",
        "dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords",
    ),
    "mano_left": ("hands_components", "hands_mean"),
    "mano_right": ("hands_components", "hands_mean"),
}  # fmt: skip


def joint_map(kind: Kind) -> tuple[Skeleton, NDArray[np.int64]]:
    """Which joint of the smplx package's output stands for each of ours.

    Args:
        kind: The body model.

    Returns:
        Our skeleton (:data:`BODY17` for SMPL, which has no fingers; :data:`BODY17_HANDS` for SMPL-H and SMPL-X; a
        sided hand for MANO, whose fingertips are appended thumb to pinky), and (J,) indices into the output.

    Raises:
        EgoposeError: Unknown kind.
    """
    if kind not in _MODEL_JOINTS:
        raise EgoposeError(f"body model {kind!r} is not known; expected one of {', '.join(_MODEL_JOINTS)}")
    base = _MODEL_JOINTS[kind]
    index: dict[str, int] = {}
    if kind.startswith("mano"):
        index["wrist"] = 0
        for f, finger in enumerate(_FINGER_ORDER):
            index.update({f"{finger}_{k + 1}": 1 + 3 * f + k for k in range(3)})
        index.update({f"{finger}_4": base + i for i, finger in enumerate(_TIPS)})
        skeleton = HANDED[kind.removeprefix("mano_")]
    else:
        index.update(_BODY)
        index.update({joint: base + i for i, joint in enumerate(_FACE)})
        skeleton = BODY17
        if kind != "smpl":
            skeleton = BODY17_HANDS
            first = {"left": base - 30, "right": base - 15}
            for side_number, side in enumerate(("left", "right")):
                index[f"{side}_hand_wrist"] = _BODY[f"{side}_wrist"]
                for f, finger in enumerate(_FINGER_ORDER):
                    index.update({f"{side}_hand_{finger}_{k + 1}": first[side] + 3 * f + k for k in range(3)})
                tips = base + len(_FACE) + _FEET + 5 * side_number
                index.update({f"{side}_hand_{finger}_4": tips + i for i, finger in enumerate(_TIPS)})
    return skeleton, np.array([index[joint] for joint in skeleton.joints], dtype=np.int64)


def joints_to_pose(
    joints: ArrayLike,
    kind: Kind,
    *,
    fps: float = 30.0,
    frames: ArrayLike | None = None,
    space: str = "world",
    T_world_model: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> PoseSequence:
    """Joints as the smplx package returns them, as a :class:`PoseSequence`.

    Args:
        joints: (T, K, 3) metres; K at least 45 (SMPL), 73 (SMPL-H), 76 (SMPL-X), 21 (MANO with appended tips).
        kind: The body model.
        fps: Frames per second.
        frames: (T,) frame numbers, by default 0, 1, ...
        space: Frame of the result.
        T_world_model: (4, 4), applied to the joints, for instance from a y-up model world to our z-up one.
        offset: (J, 3) metres added to each joint, see :func:`fit_offset`.
        provenance: Kept with the result.

    Raises:
        EgoposeError: Wrong shape or kind.
    """
    skeleton, index = joint_map(kind)
    values = np.asarray(joints, dtype=np.float64)
    if values.ndim != 3 or values.shape[2] != 3 or values.shape[1] <= index.max():
        raise EgoposeError(
            f"{kind} joints have shape {values.shape}; expected (frames, at least {index.max() + 1}, 3): the output of "
            "the smplx package with its vertex joints"
        )
    xyz = values[:, index]
    if T_world_model is not None:
        xyz = rigid.transform_points(rigid.check_transform(T_world_model, "T_world_model"), xyz)
    if offset is not None:
        shift = np.asarray(offset, dtype=np.float64)
        if shift.shape != (skeleton.n_joints, 3):
            raise EgoposeError(f"offset has shape {shift.shape}; expected ({skeleton.n_joints}, 3)")
        xyz = xyz + shift
    numbers = np.arange(len(xyz)) if frames is None else np.asarray(frames)
    return PoseSequence(
        skeleton, numbers, numbers / fps, xyz.astype(np.float32), space=space,
        provenance={"source": kind, **(provenance or {})},
    )  # fmt: skip


def fit_offset(pose: PoseSequence, clicked: PoseSequence) -> NDArray[np.float64]:
    """Mean displacement from model joints to clicked joints over common frames, (J, 3) metres, zero where unseen.

    A constant offset in the world frame is only right for a wearer who keeps facing one way; for general motion fit
    it in the frame of the head or the pelvis and transform before and after.

    Raises:
        EgoposeError: The two share no frame.
    """
    common = np.intersect1d(pose.frames, clicked.frames)
    if not common.size:
        raise EgoposeError("the two sequences share no frame; offsets need frames where both are known")
    difference = clicked.to_skeleton(pose.skeleton).select(frames=common).xyz - pose.select(frames=common).xyz
    known = np.isfinite(difference).all(axis=-1, keepdims=True)
    total = np.where(known, difference, 0).sum(axis=0, dtype=np.float64)
    return total / np.maximum(known.sum(axis=0), 1)


def read_model_file(path: str | os.PathLike[str], kind: Kind) -> dict[str, NDArray[Any]]:
    """Read the arrays of a model ``.npz`` that the smplx package needs, without unpickling anything.

    Raises:
        EgoposeError: Not an .npz (a .pkl is code that runs when opened: convert it first), keys are missing, or
            shapes do not belong to that model.
    """
    joint_map(kind)
    path = Path(path)
    if path.suffix == ".pkl":
        raise EgoposeError(
            f"{path}: pickled model files run code when opened and are not read; convert the file once with "
            "tools/convert_smpl_pkl.py of the repository, then give the .npz"
        )
    arrays = read_npz(path, (*_KEYS["common"], *_KEYS[kind]), what=f"a {kind} model file")
    if arrays["J_regressor"].ndim != 2:
        raise EgoposeError(f"{path}: J_regressor has shape {arrays['J_regressor'].shape}; expected (joints, vertices)")
    joints, vertices = arrays["J_regressor"].shape
    if joints != _MODEL_JOINTS[kind] or arrays["v_template"].shape != (vertices, 3):
        raise EgoposeError(
            f"{path}: {joints} joints and {vertices} vertices; a {kind} model has {_MODEL_JOINTS[kind]} joints. "
            "Is it another model's file?"
        )
    return arrays


def run_model(
    parameters: Mapping[str, ArrayLike],
    model_file: str | os.PathLike[str],
    kind: Kind,
    *,
    batch: int = 256,
) -> NDArray[np.float64]:
    """Joints of a body model from its parameters.

    Args:
        parameters: Names of the smplx package: ``global_orient`` (T, 3), ``body_pose`` (T, 69 or 63), ``betas``
            (T or 1, B), ``transl`` (T, 3), ``left_hand_pose`` / ``right_hand_pose`` (T, 45), ``hand_pose`` (T, 45) for
            MANO, all axis-angle radians and metres. Absent ones are zero. Hand poses are full rotations, not PCA.
        model_file: The user's model as .npz.
        kind: The body model.
        batch: Frames per forward pass.

    Returns:
        (T, K, 3) metres in the model's frame, with the vertex joints (and MANO's fingertips) appended.

    Raises:
        MissingExtra: smplx is not installed.
        EgoposeError: Bad file or parameters.
    """
    smplx = require("smplx", "smplx")
    torch = require("torch", "smplx")
    arrays = read_model_file(model_file, kind)
    values = _check_parameters(parameters, kind)
    frames = max((len(v) for v in values.values()), default=1)
    classes = {"smpl": "SMPL", "smplh": "SMPLH", "smplx": "SMPLX", "mano_left": "MANO", "mano_right": "MANO"}
    n_betas = values["betas"].shape[1] if "betas" in values else min(10, arrays["shapedirs"].shape[2])
    options: dict[str, Any] = {"num_betas": n_betas, "ext": "npz", "batch_size": 1}
    if kind != "smpl":
        options.update(use_pca=False, flat_hand_mean=True)
    if kind.startswith("mano"):
        options["is_rhand"] = kind == "mano_right"
    with tempfile.TemporaryDirectory() as folder:
        # a copy with only the arrays checked above: smplx itself would unpickle whatever else the file holds
        copy = Path(folder) / "model.npz"
        np.savez(copy, allow_pickle=False, **arrays)
        if kind != "smplx":
            options["data_struct"] = smplx.utils.Struct(**arrays)
        model = getattr(smplx, classes[kind])(model_path=str(copy), **options)
    parts = []
    with torch.no_grad():
        for start in range(0, frames, batch):
            size = min(batch, frames - start)
            inputs = {
                name: torch.as_tensor(v[start : start + size] if len(v) == frames else np.repeat(v, size, 0))
                for name, v in _complete(values, kind, model).items()
            }
            output = model(**inputs)
            joints = output.joints
            if kind.startswith("mano"):
                joints = torch.cat([joints, output.vertices[:, list(_MANO_TIP_VERTICES.values())]], dim=1)
            parts.append(joints.double().numpy())
    return np.concatenate(parts)


def smpl_to_pose(
    parameters: Mapping[str, ArrayLike] | str | os.PathLike[str],
    model_file: str | os.PathLike[str],
    kind: Kind,
    **options: Any,
) -> PoseSequence:
    """A SMPL-family result as a :class:`PoseSequence`.

    Args:
        parameters: As for :func:`run_model`, or the path of an .npz with those names, or with AMASS's (``poses``
            (T, 72, 156 or 165), ``trans``, ``betas``, ``mocap_framerate``).
        model_file: The user's model as .npz.
        kind: The body model.
        options: As for :func:`joints_to_pose`.

    Raises:
        MissingExtra: smplx is not installed.
        EgoposeError: Bad files or parameters.
    """
    if isinstance(parameters, str | os.PathLike):
        parameters, rate = read_parameters(parameters, kind)
        if rate is not None:
            options.setdefault("fps", rate)
    return joints_to_pose(run_model(parameters, model_file, kind), kind, **options)


def read_parameters(path: str | os.PathLike[str], kind: Kind) -> tuple[dict[str, NDArray[Any]], float | None]:
    """Read pose parameters from an .npz in smplx's or AMASS's names; nothing is unpickled.

    Returns:
        The parameters and the frame rate, where the file gives one.

    Raises:
        EgoposeError: Unreadable, or none of the expected arrays.
    """
    known = {"global_orient", "body_pose", "betas", "transl", "left_hand_pose", "right_hand_pose", "hand_pose"}
    wanted = known | {"poses", "trans", "mocap_framerate", "mocap_frame_rate", "fps"}
    found = read_npz(path, (), what="pose parameters", optional=sorted(wanted))
    wrong = next((key for key, value in found.items() if value.dtype.kind not in "fiu"), None)
    if wrong is not None:
        raise EgoposeError(f"{path}: {wrong} holds {found[wrong].dtype}; expected numbers")
    named = next((found[k] for k in ("mocap_framerate", "mocap_frame_rate", "fps") if k in found), None)
    rate = None if named is None else float(named.reshape(-1)[0]) if named.size == 1 else float("nan")
    if rate is not None and not 0 < rate < float("inf"):
        raise EgoposeError(f"{path}: the frame rate is {rate}; expected one positive number")
    if "poses" in found:
        poses = np.asarray(found["poses"], dtype=np.float64)
        width = {"smpl": 72, "smplh": 156, "smplx": 165}.get(kind)
        if poses.ndim != 2 or poses.shape[1] != width:
            raise EgoposeError(f"{path}: poses have shape {poses.shape}; a {kind} file has (frames, {width})")
        body = 69 if kind == "smpl" else 63
        found = {**found, "global_orient": poses[:, :3], "body_pose": poses[:, 3 : 3 + body]}
        if kind != "smpl":
            hands = poses[:, -90:]
            found |= {"left_hand_pose": hands[:, :45], "right_hand_pose": hands[:, 45:]}
        if "trans" in found:
            found["transl"] = found["trans"]
    result = {key: value for key, value in found.items() if key in known}
    if not result:
        raise EgoposeError(f"{path}: holds no pose parameters; expected some of {', '.join(sorted(known))} or poses")
    return result, rate


def _widths(kind: Kind) -> dict[str, int | None]:
    if kind.startswith("mano"):
        return {"global_orient": 3, "hand_pose": 45, "betas": None, "transl": 3}
    widths: dict[str, int | None] = {"global_orient": 3, "body_pose": 69 if kind == "smpl" else 63}
    if kind != "smpl":
        widths |= {"left_hand_pose": 45, "right_hand_pose": 45}
    return {**widths, "betas": None, "transl": 3}


def _check_parameters(parameters: Mapping[str, ArrayLike], kind: Kind) -> dict[str, NDArray[np.float32]]:
    widths = _widths(kind)
    values: dict[str, NDArray[np.float32]] = {}
    for name, given in parameters.items():
        if name not in widths:
            raise EgoposeError(f"{kind} has no parameter {name!r}; it takes {', '.join(widths)}")
        value = np.asarray(given, dtype=np.float32)
        if value.ndim == 1:
            value = value[None]
        value = value.reshape(len(value), -1)
        width = widths[name]
        if (width is not None and value.shape[1] != width) or not np.isfinite(value).all():
            raise EgoposeError(f"{kind} parameter {name!r} has shape {value.shape}; expected finite (frames, {width})")
        values[name] = value
    lengths = {len(v) for v in values.values()} - {1}
    if len(lengths) > 1:
        raise EgoposeError(f"{kind} parameters have different numbers of frames: {sorted(lengths)}")
    return values


def _complete(values: dict[str, NDArray[np.float32]], kind: Kind, model: Any) -> dict[str, NDArray[np.float32]]:
    """Zeros for everything that was not given: smplx's own defaults have a batch of one."""
    full = {name: np.zeros((1, width or model.num_betas), np.float32) for name, width in _widths(kind).items()}
    if kind == "smplx":
        full |= {name: np.zeros((1, 3), np.float32) for name in ("jaw_pose", "leye_pose", "reye_pose")}
        full["expression"] = np.zeros((1, model.num_expression_coeffs), np.float32)
    if "betas" in values:
        # smplx keeps 10 coefficients of short shape spaces whatever was asked for; the rest are the smallest
        betas = values["betas"][:, : model.num_betas]
        values = {**values, "betas": np.pad(betas, ((0, 0), (0, model.num_betas - betas.shape[1])))}
    return {**full, **values}
