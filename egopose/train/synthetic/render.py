"""Images and labels of one clip: a body, a room and a lens drawn from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.body import Body, BodyModel, load_body
from egopose.camera import Camera
from egopose.kernels import imaging, rasterise, skinning
from egopose.skeleton import BODY17_HANDS, FINGERS
from egopose.train.synthetic import world
from egopose.train.synthetic.fingers import HandAxes
from egopose.train.synthetic.lenses import Kind, random_camera
from egopose.train.synthetic.motion import STEEPEST, BodyMotion, SourceMotion, animate

Array = NDArray[np.float64]

PARTS = (
    "none", "room", "held", "torso", "left_upper_arm", "left_forearm", "left_hand", "left_thigh", "left_shin",
    "left_foot", "right_upper_arm", "right_forearm", "right_hand", "right_thigh", "right_shin", "right_foot",
)  # fmt: skip
"""What a pixel of the part mask shows."""

NEAR_M = 0.03
METER = 0.22
"""Mean linear light that the camera exposes for."""

LONGEST_EXPOSURE_S = 1 / 30
CURVE_STEPS, GRAINS = 2048, 2**18
"""Steps of the tone curve; random numbers that the noise of a clip is taken from."""

SKIN, TOP, TROUSERS, SHOES, HELD = range(5)


def _part(bone: str) -> int:
    side, _, rest = bone.partition("_")
    if side not in ("left", "right") or rest == "clavicle":
        return PARTS.index("torso")
    if rest == "toes":
        rest = "foot"
    elif rest == "forearm_twist":
        rest = "forearm"
    elif rest not in ("upper_arm", "forearm", "thigh", "shin", "foot"):
        rest = "hand"
    return PARTS.index(f"{side}_{rest}")


def slack(joints: tuple[str, ...] = BODY17_HANDS.joints) -> Array:
    """How deep under the skin each joint may lie and still be seen, (J,) metres."""
    size = {"shoulder": 0.12, "elbow": 0.07, "wrist": 0.05, "hip": 0.19, "knee": 0.10, "ankle": 0.08}
    out = []
    for joint in joints:
        last = joint.rsplit("_", 1)[-1]
        palm = {"1": 0.035, "2": 0.027}
        out.append(palm.get(last, 0.022) if "_hand_" in joint and last != "wrist" else size.get(last, 0.04))
    return np.array(out)


@dataclass(frozen=True, eq=False)
class Dressed:
    """A body with clothes: what is drawn of it.

    Attributes:
        body: Its skin pushed out where there is cloth.
        triangles: (F, 3) without the head, which the camera never sees.
        material: (F,) SKIN, TOP, TROUSERS or SHOES; part: (F,) index into ``PARTS``.
    """

    body: Body
    triangles: NDArray[np.int64]
    material: NDArray[np.int64]
    part: NDArray[np.int64]


def dress(body: Body, rng: np.random.Generator) -> Dressed:
    """Sleeves and trouser legs of random length, cloth of random thickness."""
    model: BodyModel = body.model
    owner = model.bones[np.arange(len(model.bones)), model.weights.argmax(axis=1)]
    kept = ~(owner[model.triangles] == model.index("head")).any(axis=1)
    triangles = model.triangles[kept]
    bone = owner[triangles[:, 0]]
    names = [model.names[b] for b in range(len(model.names))]
    part = np.array([_part(name) for name in names])[bone]
    centre = body.vertices[triangles].mean(axis=1)
    material = np.full(len(triangles), SKIN)
    material[np.isin(bone, [model.index(n) for n in ("pelvis", "left_thigh", "right_thigh")])] = TROUSERS
    tops = ("spine", "chest", "left_clavicle", "right_clavicle")
    material[np.isin(bone, [model.index(n) for n in tops])] = TOP
    sleeve = rng.choice([rng.uniform(0.3, 0.8), rng.uniform(1.0, 1.9), 1.95])
    leg = rng.choice([rng.uniform(0.6, 1.1), 1.9], p=[0.25, 0.75])
    for side in ("left", "right"):
        for chain, length, cloth in (
            (("upper_arm", "forearm", "hand"), sleeve, TOP), (("thigh", "shin", "foot"), leg, TROUSERS),
        ):  # fmt: skip
            for k in range(2):
                a, b = body.at(f"{side}_{chain[k]}"), body.at(f"{side}_{chain[k + 1]}")
                along = k + (centre - a) @ (b - a) / ((b - a) @ (b - a))
                mine = bone == model.index(f"{side}_{chain[k]}")
                if chain[k] == "forearm":
                    mine |= bone == model.index(f"{side}_forearm_twist")
                material[mine] = np.where(along[mine] < length, cloth, SKIN)
        material[np.isin(bone, [model.index(f"{side}_{n}") for n in ("foot", "toes")])] = SHOES
    normals = np.empty_like(body.vertices)
    skinning.vertex_normals(body.vertices, model.triangles, normals)
    thick = np.zeros(len(model.vertices))
    depth = {TOP: rng.uniform(0.002, 0.018), TROUSERS: rng.uniform(0.002, 0.02), SHOES: rng.uniform(0.003, 0.01)}
    for cloth, metres in depth.items():
        thick[triangles[material == cloth]] = metres
    # bare skin next to cloth stays where it is, so that a sleeve ends in a step
    thick[triangles[material == SKIN]] = 0.0
    return Dressed(Body(model, body.vertices + thick[:, None] * normals, body.points), triangles, material, part)


def _in_hand(body: Body, side: str, material: int, rng: np.random.Generator) -> world.Mesh:
    """A thing in a hand of the rest body."""
    knuckles = [body.at(f"{side}_{finger}_1") for finger in FINGERS[1:]]
    normal = HandAxes.of(body, side).spread
    # the fingers close around a point a little beyond the knuckles
    ahead = body.at(f"{side}_middle_1") - body.at(f"{side}_hand")
    palm = np.mean(knuckles, axis=0) + 0.1 * ahead
    return world.held_thing(rng, palm, knuckles[-1] - knuckles[0], normal, material)


@dataclass(frozen=True)
class Look:
    """What the camera's electronics do.

    Attributes:
        exposure: Factor on linear light; contrast: exponent of the tone curve.
        tint: (3,) white balance.
        noise: Standard deviation at full scale 1; blur: pixels of optical blur.
        vignette: Loss of light in the corners.
        shutter: Share of the frame time that the shutter is open.
    """

    exposure: float
    contrast: float
    tint: Array
    noise: float
    blur: float
    vignette: float
    shutter: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Look:
        """A camera of some quality."""
        return cls(
            float(np.exp(0.3 * rng.standard_normal())), float(rng.uniform(0.38, 0.55)),
            np.exp(0.06 * rng.standard_normal(3)), float(rng.choice([0.0, rng.uniform(0, 0.03)])),
            float(rng.choice([0.0, rng.uniform(0.3, 0.9)])), float(rng.uniform(0, 0.5)),
            float(rng.choice([0.0, rng.uniform(0.05, 0.5)])),
        )  # fmt: skip


def draw_angle(camera: Camera) -> float | None:
    """Angle from the axis up to which triangles are drawn, radians."""
    return None if camera.max_angle is None else min(camera.max_angle + 0.35, np.pi - 0.05, model_angle(camera))


def model_angle(camera: Camera) -> float:
    """Angle at which the camera's model itself ends, radians."""
    return replace(camera, max_angle=None).valid_angle


class Scene:
    """Everything of a clip that does not move, and the buffers to draw into."""

    def __init__(self, body: Body, motion: BodyMotion, camera: Camera, rng: np.random.Generator) -> None:
        """Dress the body and furnish the room."""
        self.motion, self.camera = motion, camera
        self.skin = body
        self.dressed = dress(body, rng)
        path = np.concatenate([motion.root[:, :2], motion.T_world_camera[:, :2, 3]])
        rows = world.body_materials(rng)
        room, more = world.random_room(rng, path, len(rows))
        self.room, self.materials = room, world.Materials.stack(rows + more)
        self.light, self.look = world.random_light(rng), Look.random(rng)
        self.held = [
            (body.model.index(f"{s}_hand"), _in_hand(body, s, HELD + i, rng))
            for i, s in enumerate(("left", "right"))
            if motion.held[i]
        ]
        things = [mesh for _, mesh in self.held]
        drawn = self.dressed
        starts = len(body.vertices) + np.cumsum([0, *(len(mesh.vertices) for mesh in things)])
        held_triangles = [mesh.triangles + start for mesh, start in zip(things, starts)]
        self.moving = np.concatenate([body.model.triangles, *held_triangles])
        self.triangles = np.concatenate([drawn.triangles, *held_triangles, room.triangles + starts[-1]])
        self.material = np.concatenate([drawn.material, *(mesh.material for mesh in things), room.material])
        counts = [sum(len(mesh.triangles) for mesh in things), len(room.triangles)]
        others = np.repeat([PARTS.index("held"), PARTS.index("room")], counts)
        self.part = np.concatenate([drawn.part, others])
        self.texture = np.concatenate([drawn.body.vertices, *(mesh.texture for mesh in things), room.texture])
        self.vertices = np.concatenate([np.zeros((starts[-1], 3)), room.vertices])
        self.normals = np.concatenate([np.zeros((starts[-1], 3)), room.normals])
        self.uvw = np.zeros_like(self.vertices)
        # drawn a little beyond the lens's own edge, where whole triangles end, then cut along a circle
        self.code, self.params, _ = replace(camera, max_angle=draw_angle(camera)).packed()
        width, height = camera.size
        self.inside_lens = np.zeros((height, width), dtype=bool)
        edge = camera.max_angle or np.pi
        rasterise.angle_mask(self.code, self.params, height, width, edge, self.inside_lens)
        v, u = np.mgrid[:height, :width]
        far = ((u - width / 2) ** 2 + (v - height / 2) ** 2) / (width**2 / 2)
        self.falloff = 1 - self.look.vignette * far
        self.index = np.full((height, width), -1, np.int32)
        self.nearness, self.inside = np.zeros((height, width)), np.zeros((height, width, 2))
        self.light_image = np.zeros((height, width, 3), np.float32)

    def moved(self, t: int) -> Array:
        """Vertices of the clothed body and of what it holds at a frame, (M, 3) world."""
        posed = self.dressed.body.pose(self.motion.R[t], self.motion.root[t])
        rest = self.skin.joints
        things = [(mesh.vertices - rest[bone]) @ posed.R[bone].T + posed.bone_joints[bone] for bone, mesh in self.held]
        return np.concatenate([posed.vertices, *things])

    def draw(self, vertices: Array, T_world_camera: Array, shift: tuple[float, float] = (0.0, 0.0)) -> None:
        """Fill the buffers with moving vertices (M, 3) seen from a camera pose."""
        n, params = len(vertices), self.params.copy()
        params[2:4] += shift
        self.vertices[:n] = vertices
        T = rigid.invert(T_world_camera)[:3]
        rasterise.project_vertices(self.code, params, T, self.vertices, NEAR_M, self.uvw)
        self.nearness[:], self.index[:] = 0.0, -1
        rasterise.fill(self.uvw, self.triangles, self.nearness, self.index, self.inside)

    def shade(self, T_world_camera: Array) -> NDArray[np.float32]:
        """Linear light (H, W, 3) of what was drawn last."""
        n = len(self.vertices) - len(self.room.vertices)
        skinning.vertex_normals(self.vertices[:n], self.moving, self.normals[:n])
        self.light_image[:] = 0
        m, light = self.materials, self.light
        place = np.array([*T_world_camera[:3, 3], light.along_view])
        rasterise.shade(
            self.index, self.inside, self.triangles, self.normals, self.texture, self.material, m.tones, m.kinds,
            m.scales, m.seeds, light.lamp, light.sky, place, self.light_image,
        )  # fmt: skip
        return self.light_image


class Darkroom:
    """From linear light to images as a camera would store them."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        """Tone curve and grain of a clip; the gain is metered on the first frame, as cameras do."""
        look, self.rng = scene.look, rng
        self.scene, self.gain = scene, 0.0
        self.curve = (imaging.WHITE * np.linspace(0, 1, CURVE_STEPS) ** 2) ** look.contrast
        side = math.exp(-0.5 / look.blur**2) if look.blur else 0.0
        self.side_tap = side / (1 + 2 * side)
        self.noise = rng.standard_normal(GRAINS if look.noise else 0, dtype=np.float32)
        self.work = np.zeros_like(scene.light_image)

    def develop(self, light: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
        """Write one image (H, W, 3); the light is used up."""
        look, scene = self.scene.look, self.scene
        if not self.gain:
            self.gain = look.exposure * METER / max(float(light[scene.inside_lens].mean()), 1e-3)
        start = int(self.rng.integers(GRAINS)) if self.noise.size else 0
        imaging.develop(
            light, self.gain * look.tint, scene.falloff, self.side_tap, self.curve, self.noise, start, look.noise,
            scene.inside_lens, self.work, out,
        )  # fmt: skip


def render_clip(
    source: SourceMotion, seed: int | tuple[int, ...], *, side: int = 288, lens: Kind | None = None, samples: int = 3,
    hands_up: float = 0.7, steep_share: float = 0.0, steepest: float = STEEPEST, keep: tuple[str, ...] = (),
    model: BodyModel | None = None, camera: Camera | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A clip with its labels; the same source and seed give the same bytes.

    Args:
        source: Motion; its frames are the clip's.
        seed: Everything random follows from it.
        side: Width and height of the image, pixels.
        lens: Camera model; None draws one.
        samples: Images averaged per frame, for smooth edges and motion blur.
        hands_up: Share of the clips with hands before the camera.
        steep_share: Share of the clips whose camera looks steeply down.
        steepest: How steeply at most, radians.
        keep: Also return ``"depth"`` (T, H, W) float32 metres along the ray, 0 where empty, and / or ``"parts"``
            (T, H, W) uint8, see ``PARTS``.
        model: Body asset; None is the package's.
        camera: A square camera in place of a drawn one; with it the rest of the clip depends on the seed alone, so
            that the same motion can be seen through several lenses.

    Returns:
        ``images`` (T, H, W, 3) uint8, ``times_s`` (T,), ``T_world_camera`` (T, 4, 4), ``joints_world`` (T, 59, 3),
        ``visible`` (T, 59) bool in the image and not hidden, ``in_view`` (T, 59) bool in the image, ``camera``,
        ``shape`` coefficients, ``name``, ``subject``, and what ``keep`` names.
    """
    rng = np.random.default_rng(seed)
    model = load_body() if model is None else model
    shape = np.clip(rng.standard_normal(model.n_shapes), -2.2, 2.2)
    body = model.shaped(shape)
    if camera is None:
        camera = random_camera(rng, side, lens)
    side = camera.size[0]
    motion = animate(body, source, rng, hands_up=hands_up, steep_share=steep_share, steepest=steepest)
    scene = Scene(body, motion, camera, rng)
    n, joints_count = motion.times_s.size, BODY17_HANDS.n_joints
    out: dict[str, Any] = {
        "images": np.zeros((n, side, side, 3), np.uint8), "times_s": motion.times_s,
        "T_world_camera": motion.T_world_camera, "joints_world": np.zeros((n, joints_count, 3)),
        "visible": np.zeros((n, joints_count), bool), "in_view": np.zeros((n, joints_count), bool),
        "camera": camera, "shape": shape, "name": source.name, "subject": source.subject,
    }  # fmt: skip
    if "depth" in keep:
        out["depth"] = np.zeros((n, side, side), np.float32)
    if "parts" in keep:
        out["parts"] = np.zeros((n, side, side), np.uint8)
    deep, uvw = slack(), np.zeros((joints_count, 3))
    clothed = [scene.moved(t) for t in range(n)]
    darkroom = Darkroom(scene, rng)
    # no camera holds its shutter open much longer than 1/30 s
    open_share = scene.look.shutter * min(1.0, LONGEST_EXPOSURE_S / float(np.diff(motion.times_s).min(initial=1.0)))
    for t in range(n):
        T = motion.T_world_camera[t]
        joints = body.pose(motion.R[t], motion.root[t]).joints()
        out["joints_world"][t] = joints
        total = np.zeros((side, side, 3), np.float32)
        for k in range(samples):
            # the middle of the exposure is the frame's time; sample 0 also gives the labels
            when = open_share * _order(k, samples)
            vertices, pose = _at(clothed, motion.T_world_camera, t, when)
            scene.draw(vertices, pose, _jitter(k) if samples > 1 else (0.0, 0.0))
            total += scene.shade(pose)
            if k == 0:
                rasterise.project_vertices(scene.code, scene.params, rigid.invert(T)[:3], joints, 1e-3, uvw)
                rasterise.seen(uvw, scene.nearness, deep, out["visible"][t])
                in_camera = rigid.transform_points(rigid.invert(T), joints)
                out["in_view"][t] = camera.in_image(camera.project(in_camera, frame="camera"))
                if "depth" in keep:
                    near = scene.nearness
                    out["depth"][t] = np.where(near > 0, 1 / np.maximum(near, 1e-9), 0)
                if "parts" in keep:
                    out["parts"][t] = np.where(scene.index >= 0, scene.part[scene.index], 0)
        darkroom.develop(total, out["images"][t])
    out["visible"] &= out["in_view"]
    # the head is not drawn, so nothing can be said of its joints by sight
    face = [i for i, joint in enumerate(BODY17_HANDS.joints) if joint.endswith(("nose", "_eye", "_ear"))]
    out["visible"][:, face] = False
    return out


def _order(k: int, samples: int) -> float:
    """Time of a sample in [-1/2, 1/2] of the exposure; the first is its middle."""
    return 0.0 if k == 0 else (-0.5 if k % 2 else 0.5) * ((k + 1) // 2) / max(1, samples // 2)


def _jitter(k: int) -> tuple[float, float]:
    """A shift inside the pixel."""
    return ((0.0, 0.0), (0.33, -0.25), (-0.33, 0.25), (0.25, 0.33), (-0.25, -0.33))[k % 5]


def _at(clothed: list[Array], T: Array, t: int, when: float) -> tuple[Array, Array]:
    """Vertices and camera a share of a frame before or after frame t."""
    other = t + (1 if when > 0 else -1)
    if when == 0.0 or not 0 <= other < len(clothed):
        return clothed[t], T[t]
    share = abs(when)
    return (1 - share) * clothed[t] + share * clothed[other], rigid.interpolate(T[t], T[other], share)
