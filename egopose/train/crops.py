"""Batches of single hands: what reads the crops learns from many more hands than whole frames could show."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.errors import EgoposeError, import_cv2
from egopose.metrics import mpjpe, pa_mpjpe
from egopose.model.headmotion import HEAD_FEATURES
from egopose.model.network import EgoPoseNet
from egopose.model.rays import HandCrop, crop_shows, normalise
from egopose.npz import read_npz
from egopose.rigid import rotation_from_vector
from egopose.skeleton import BODY17, HAND21
from egopose.train.batch import Batch, WeightedDraw, stack, unrelated
from egopose.train.config import TrainConfig
from egopose.train.rendered import spread
from egopose.train.synthetic.layout import check_format

Array = NDArray[np.float64]

ARRAYS = ("images", "focal_px", "R_view_camera", "joints_camera", "visible", "hand")
WRONG_SIDE = 0.08
"""Share of crops that show the other hand."""

TURN_RAD = 0.25
"""Standard deviation of the random turn of a crop about its axis."""

NEAR_M, NEAR_MOST = 0.45, 6.0
"""Hands nearer than this are drawn more often, by the cube of their nearness and at most so many times as often: they
are few, and were read as far too distant."""

MISJUDGED, MISJUDGED_MOST = 0.25, 2.0
"""Share of crops that are sized for a hand further away than it is, and how many times as far at most: what the finder
does with near hands."""

CUT_OFF = 0.35
"""Share of crops that an edge of the image runs through, with black beyond: hands enter and leave the view, and what is
most often cut off is the wrist."""

WRIST_FIRST, WRIST_SPREAD_RAD = 0.5, 0.7
"""Share of those edges that come from the wrist's side, and how far they stray from its direction."""

LEAST_SEEN = 7
"""Joints that are left in view of a hand that is cut off."""


@dataclass(frozen=True, eq=False)
class HandCrops:
    """Rendered hands, see :func:`egopose.train.synthetic.handcrops.render_hand_crops`, all clips one after another."""

    images: NDArray[np.uint8]
    focal_px: Array
    R_view_camera: Array
    joints_camera: NDArray[np.float32]
    visible: NDArray[np.bool_]
    hand: NDArray[np.uint8]
    subjects: set[str]

    def __len__(self) -> int:
        return len(self.hand)

    def view(self, index: int) -> Camera:
        """The pinhole camera of an image."""
        side = self.images.shape[1]
        return Camera.pinhole(float(self.focal_px[index]), [(side - 1) / 2] * 2, (side, side), name="hand")


def load_crops(folders: Sequence[str | os.PathLike[str]]) -> HandCrops:
    """All crops of some folders.

    Args:
        folders: What ``egopose synth`` wrote with ``content: hands``.

    Raises:
        EgoposeError: A folder holds none, a file is damaged or of an older version, or images differ in size.
    """
    parts: list[dict[str, Any]] = []
    subjects: set[str] = set()
    for folder in map(Path, folders):
        paths = sorted(folder.glob("crops_*.npz"))
        if not paths:
            raise EgoposeError(
                f"{folder}: holds no rendered hands (crops_*.npz); make some with egopose synth and content: hands"
            )
        for path in paths:
            part = read_npz(path, (*ARRAYS, "subject"), optional=("format",), what="rendered hands")
            check_format(str(part["format"]) if "format" in part else None, path)
            if parts and part["images"].shape[1:] != parts[0]["images"].shape[1:]:
                raise EgoposeError(f"{path}: images {part['images'].shape[1:]}, others {parts[0]['images'].shape[1:]}")
            parts.append(part)
            subjects.add(str(part["subject"]))
    if not parts:
        raise EgoposeError("training: stage 'hands' needs crops: and held_out_crops: folders of rendered hands")
    return HandCrops(**{key: np.concatenate([p[key] for p in parts]) for key in ARRAYS}, subjects=subjects)


def turned(axis: Array, angle: float) -> Array:
    """Rotation (3, 3) about an axis (3,)."""
    return rotation_from_vector(angle * axis / np.linalg.norm(axis))


def cut(
    crops: HandCrops, index: int, place: Array, turn: Array, as_left: bool, side: int, cells: int, *,
    wrong_side: bool = False,
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """One hand as the network's inputs and labels.

    Args:
        crops: The hands.
        index: Which one.
        place: (3,) where the crop is aimed, in head camera axes as drawn.
        turn: (3, 3) that head and hand are turned by together, about ``place``'s direction.
        as_left: Whether it stands for a left hand; one of the other side is mirrored.
        side: Of the crop, pixels.
        cells: Of the encoder's tokens along a side.
        wrong_side: Show the other hand where this one is looked for.
    """
    crop = HandCrop.aimed(turn @ place)
    drawn = HandCrop(crops.R_view_camera[index] @ turn.T @ crop.R_camera_crop, crop.focal, crop.distance_m)
    is_left = bool(crops.hand[index] == 0) != wrong_side
    image = drawn.image(crops.images[index], crops.view(index), side, mirror=is_left)
    joints = crops.joints_camera[index] @ turn.T
    if is_left != as_left:
        # the mirrored world: x of head camera axes changes its sign
        flip = np.array([-1.0, 1.0, 1.0])
        joints = joints * flip
        crop = HandCrop.aimed((turn @ place) * flip)
    return {
        "hands": image, "hand_rays": crop.token_rays(cells, mirror=as_left),
        "hand_axes": crop.R_camera_crop.astype(np.float32),
        "hand_focal": np.float32(crop.focal), "hand_distance": np.float32(crop.distance_m),
        "joints": joints.astype(np.float32),
    }  # fmt: skip


class CropSource:
    """Batches of hands; batch ``step`` depends on the seed, the step and the process alone."""

    def __init__(self, crops: HandCrops, config: TrainConfig, *, rank: int = 0) -> None:
        """Keep the hands."""
        self.crops, self.config, self.rank = crops, config, rank
        model = config.model
        far = np.linalg.norm(crops.joints_camera.astype(np.float64).mean(axis=1), axis=-1)
        self._draw = WeightedDraw(np.clip((NEAR_M / far) ** 3, 1.0, NEAR_MOST))
        self.cells = model.hand_px // model.fine_stride
        self.constant = unrelated(config.rendered_window, model)

    def batch(self, step: int) -> Batch:
        """The hands of a training step, as windows of unrelated frames."""
        rng = np.random.default_rng((self.config.seed, 7, self.rank, step))
        return stack([self._window(rng) for _ in range(self.config.rendered_batch)])

    def _window(self, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        length, n = self.config.rendered_window, BODY17.n_joints
        rows = [[self._hand(rng, as_left=h == 0) for h in range(2)] for _ in range(length)]
        out: dict[str, NDArray[Any]] = dict(self.constant)
        for key in ("hands", "hand_rays", "hand_axes", "hand_focal", "hand_distance", "crop"):
            out[key] = np.stack([np.stack([hand[key] for hand in row]) for row in rows])
        out["hand_known"] = np.ones((length, 2), dtype=bool)
        xyz, visible = out["xyz"].copy(), out["visible"].copy()
        for t, row in enumerate(rows):
            for h, hand in enumerate(row):
                mine = slice(n + h * HAND21.n_joints, n + (h + 1) * HAND21.n_joints)
                xyz[t, mine], visible[t, mine] = hand["joints"], hand["visible"]
        out["xyz"], out["visible"] = xyz, visible
        return out

    def _hand(self, rng: np.random.Generator, *, as_left: bool) -> dict[str, NDArray[Any]]:
        crops = self.crops
        index = int(self._draw(rng, 1)[0])
        centre = crops.joints_camera[index].astype(np.float64).mean(axis=0)
        # from as a second look is aimed to as a first one is
        place = centre + 0.01 * spread(rng) * rng.standard_normal(3)
        if rng.random() < MISJUDGED:
            place = place * rng.uniform(1.0, MISJUDGED_MOST)
        else:
            place = place * np.exp(0.08 * spread(rng) * rng.standard_normal())
        turn = turned(place, TURN_RAD * float(rng.standard_normal()))
        wrong = bool(rng.random() < WRONG_SIDE)
        hand = cut(crops, index, place, turn, as_left, self.config.model.hand_px, self.cells, wrong_side=wrong)
        hand["crop"] = np.array(crop_shows(place, centre) and not wrong, np.int8)
        hand["hands"] = spoil(hand["hands"], rng)
        hand["visible"] = crops.visible[index].astype(np.int8)
        if rng.random() < CUT_OFF:
            cut_off(hand, as_left, rng)
        if wrong:
            hand["joints"] = np.full_like(hand["joints"], np.nan)
            hand["visible"] = np.full_like(hand["visible"], -1)
        return hand


def cut_off(hand: dict[str, NDArray[Any]], as_left: bool, rng: np.random.Generator) -> None:
    """End the frame somewhere in a crop: black beyond a line that leaves some joints in view.

    Args:
        hand: What :func:`cut` gave, and ``visible`` (21,); its image and visibility are changed.
        as_left: Whether it stands for a left hand, whose image is mirrored.
        rng: Where the line goes.
    """
    points = hand["joints"] @ hand["hand_axes"]
    uv = hand["hand_focal"] * points[:, :2] / points[:, 2:]
    if as_left:
        uv = uv * np.array([-1.0, 1.0])
    angle = 2 * np.pi * rng.random()
    if rng.random() < WRIST_FIRST:
        to_wrist = uv[HAND21.index("wrist")] - uv.mean(axis=0)
        angle = np.arctan2(to_wrist[1], to_wrist[0]) + WRIST_SPREAD_RAD * rng.standard_normal()
    normal = np.array([np.cos(angle), np.sin(angle)])
    along = uv @ normal
    seen = np.sort(along[hand["visible"] == 1])
    if seen.size < LEAST_SEEN:
        return
    edge = rng.uniform(seen[LEAST_SEEN - 1] + 0.02, along.max() + 0.2)
    side = hand["hands"].shape[0]
    at = (np.arange(side) + 0.5) * 2 / side - 1
    beyond = normal[0] * at[None, :] + normal[1] * at[:, None] > edge
    hand["hands"] = np.where(beyond[..., None], np.uint8(0), hand["hands"])
    hand["visible"] = np.where(along > edge, 0, hand["visible"]).astype(np.int8)


def spoil(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A crop as worse cameras give it: few pixels on the hand, motion blur, another exposure, colour and noise."""
    cv2 = import_cv2()
    side = image.shape[0]
    kind = rng.random()
    if kind < 0.4:
        small = int(side * rng.uniform(0.3, 0.9))
        image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    elif kind < 0.55:
        size = 1 + 2 * int(rng.integers(1, 4))
        line = np.zeros((size, size), np.float32)
        angle, middle = rng.uniform(0, np.pi), size // 2
        for r in np.linspace(-middle, middle, 2 * size):
            line[round(middle + r * np.sin(angle)), round(middle + r * np.cos(angle))] = 1
        image = cv2.filter2D(image, -1, line / line.sum())
    gain = np.exp(0.25 * rng.standard_normal()) * np.exp(0.07 * rng.standard_normal(3))
    out = image.astype(np.float32) * gain.astype(np.float32) + np.float32(14 * rng.standard_normal())
    if rng.random() < 0.3:
        # a thing before the hand, or one that ends the image
        x, y = rng.integers(0, side, 2)
        w, h = rng.integers(side // 10, side // 3, 2)
        out[y : y + h, x : x + w] = rng.uniform(0, 255, 3)
    if rng.random() < 0.5:
        out += np.float32(10 * rng.random()) * rng.standard_normal(out.shape, dtype=np.float32)
    return np.clip(out, 0, 255).astype(np.uint8)


def crop_scores(model: EgoPoseNet, crops: HandCrops, *, most: int = 1500, batch: int = 64) -> dict[str, float]:
    """Errors of what the network reads off single crops that are aimed within 1 cm of the hand.

    Returns:
        ``hand_mm`` wrist-relative, ``hand_pa_mm`` after Procrustes, ``wrist_mm`` in head camera axes, ``cut_mm`` as
        ``hand_mm`` where an edge of the image runs through every crop, and ``score``, both as often as they are learnt.
    """
    hand, pa, wrist = _crop_errors(model, crops, most, batch, edges=False)
    cut_mm = _crop_errors(model, crops, most, batch, edges=True)[0]
    score = (1 - CUT_OFF) * hand + CUT_OFF * cut_mm
    return {"hand_mm": hand, "hand_pa_mm": pa, "wrist_mm": wrist, "cut_mm": cut_mm, "score": score}


def _crop_errors(
    model: EgoPoseNet, crops: HandCrops, most: int, batch: int, *, edges: bool
) -> tuple[float, float, float]:
    """Wrist-relative error, after Procrustes, and of the wrist, millimetres; with ``edges`` each hand is cut off."""
    import torch

    from egopose.model.records import FrameBatch

    rng = np.random.default_rng(1)
    config = model.config
    cells = model.hand_cells
    pick = np.linspace(0, len(crops) - 1, min(most, len(crops))).round().astype(int)
    said, true = [], []
    model.eval()
    device = next(model.parameters()).device
    with torch.no_grad():
        for start in range(0, len(pick), batch):
            rows, names, sides = [], pick[start : start + batch], []
            for index in names:
                centre = crops.joints_camera[index].astype(np.float64).mean(axis=0)
                place = centre + 0.006 * rng.standard_normal(3)
                is_left = bool(crops.hand[index] == 0)
                row = cut(crops, int(index), place, np.eye(3), is_left, config.hand_px, cells)
                if edges:
                    row["visible"] = crops.visible[index].astype(np.int8)
                    cut_off(row, is_left, rng)
                rows.append(row)
                sides.append(0 if is_left else 1)
            n = len(rows)
            known = torch.zeros(n, 2, dtype=torch.bool)
            known[torch.arange(n), torch.tensor(sides)] = True

            def both(key: str, rows: list[dict[str, Any]] = rows) -> torch.Tensor:
                one = torch.from_numpy(np.stack([row[key] for row in rows]))
                return one[:, None].expand(-1, 2, *one.shape[1:]).contiguous()

            images = torch.from_numpy(normalise(np.stack([row["hands"] for row in rows])))
            frames = FrameBatch(
                torch.zeros(n, HEAD_FEATURES), torch.zeros(n, dtype=torch.bool),
                hands=images[:, None].expand(-1, 2, -1, -1, -1) * known[..., None, None, None],
                hand_rays=both("hand_rays"), hand_known=known, hand_axes=both("hand_axes"),
                hand_focal=both("hand_focal"), hand_distance=both("hand_distance"),
            )  # fmt: skip
            hands = model.encode(frames.map(lambda t: t.to(device))).hands
            assert hands is not None
            wrist, offsets = (value[torch.arange(n), torch.tensor(sides)] for value in hands)
            said.append(torch.cat([wrist[:, None], wrist[:, None] + offsets], dim=1).double().cpu().numpy())
            true.append(np.stack([row["joints"] for row in rows]).astype(np.float64))
    mine, theirs = np.concatenate(said), np.concatenate(true)
    wrist_root = HAND21.index("wrist")
    return (
        1000 * float(np.mean(mpjpe(mine, theirs, root=wrist_root))),
        1000 * float(np.mean(pa_mpjpe(mine, theirs))),
        1000 * float(np.linalg.norm(mine[:, wrist_root] - theirs[:, wrist_root], axis=-1).mean()),
    )
