"""A live 3D scene in the browser, served by viser on this machine only."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.errors import EgoposeError, require
from egopose.pose import PoseSequence
from egopose.view.scene import joint_sides, match, root_mean_square_sigma

if TYPE_CHECKING:
    from egopose.camera import Rig

_RGB = {"left": (0, 114, 178), "right": (213, 94, 0), "middle": (74, 79, 87)}
_GREY = (125, 135, 148)


class LiveScene:
    """Skeletons of one viser server; :meth:`show` moves them.

    The server listens on 127.0.0.1; no shared address is ever asked for.
    """

    def __init__(self, rig: Rig | None = None, *, port: int = 8080) -> None:
        """Start the server.

        Args:
            rig: Cameras to draw.
            port: Port on this machine; the next free one is taken when it is in use.

        Raises:
            MissingExtra: viser is not installed.
            EgoposeError: No such port.
        """
        if not 1 <= port <= 65535:
            raise EgoposeError(f"view: port {port} does not exist; expected 1 to 65535")
        viser: Any = require("viser", "view")
        # what viser says belongs to the messages; standard output is the command's result
        with contextlib.redirect_stdout(sys.stderr):
            self.server = viser.ViserServer(host="127.0.0.1", port=port, verbose=False)
        # the share button would open a tunnel to the outside
        self.server.gui.configure_theme(show_share_button=False, show_logo=False)
        self.server.scene.set_up_direction("+z")
        self.server.scene.add_grid("/floor", width=6.0, height=6.0, cell_size=0.5)
        self._joints: dict[str, Any] = {}
        for camera in () if rig is None else rig.cameras:
            xyzw = rigid.matrix_to_quaternion(camera.T_world_camera[:3, :3])
            w, h = camera.size
            handle = f"/cameras/{camera.name}"
            self.server.scene.add_camera_frustum(
                handle, fov=float(2 * np.arctan2(h / 2, camera.K[1, 1])), aspect=w / h, scale=0.2,
                wxyz=np.roll(xyzw, 1), position=camera.T_world_camera[:3, 3],
            )  # fmt: skip
            self.server.scene.add_label(f"{handle}/name", str(camera.name))

    @property
    def address(self) -> str:
        """Where to open it."""
        return f"http://127.0.0.1:{self.server.get_port()}"

    def show(self, pose: PoseSequence, frame: int, *, name: str = "pose", reference: bool = False) -> None:
        """Put one frame of a sequence into the scene; joints without a point are left out.

        Args:
            pose: The sequence.
            frame: Position in it, from 0.
            name: Sequences of different names stand side by side.
            reference: Draw it grey.
        """
        xyz = pose.xyz[frame]
        known = pose.valid[frame]
        colours = np.array([_GREY if reference else _RGB[side] for side in joint_sides(pose.skeleton)], dtype=np.uint8)
        scene = self.server.scene
        sigma = root_mean_square_sigma(pose)
        with self.server.atomic():
            for old in self._joints.pop(name, ()):
                old.remove()
            if not known.any():
                return
            handles = [
                scene.add_point_cloud(
                    f"/{name}/joints", xyz[known], colours[known], point_size=0.018, point_shape="circle",
                    precision="float32",
                )
            ]  # fmt: skip
            bones = np.array([(a, b) for a, b in pose.skeleton.bones if known[a] and known[b]], dtype=np.int64)
            if bones.size:
                handles.append(
                    scene.add_line_segments(f"/{name}/bones", xyz[bones], colours[bones], thickness=0.014)
                )  # fmt: skip
            if sigma is not None and not reference:
                handles += self._error_bars(name, xyz, sigma[frame], colours)
            self._joints[name] = handles

    def _error_bars(
        self, name: str, xyz: NDArray[np.float32], sigma: NDArray[np.float64], colours: NDArray[np.uint8]
    ) -> list[Any]:
        known = np.isfinite(sigma) & np.isfinite(xyz[:, 0]) & (sigma > 0)
        if not known.any():
            return []
        trimesh: Any = require("trimesh", "view")
        ball = trimesh.creation.icosphere(subdivisions=1)
        return [
            self.server.scene.add_batched_meshes_simple(
                f"/{name}/sigma", ball.vertices, ball.faces, batched_positions=xyz[known],
                batched_wxyzs=np.tile([1.0, 0, 0, 0], (int(known.sum()), 1)),
                batched_scales=np.repeat(sigma[known][:, None], 3, axis=1).astype(np.float32),
                batched_colors=colours[known], opacity=0.25,
            )
        ]  # fmt: skip

    def close(self) -> None:
        """Stop the server."""
        with contextlib.redirect_stdout(sys.stderr):
            self.server.stop()


def live(pose: PoseSequence, rig: Rig | None = None, *, against: PoseSequence | None = None, port: int = 8080) -> None:
    """Serve a sequence with a frame slider until interrupted.

    Args:
        pose: The joints.
        rig: Cameras to draw.
        against: A second sequence, drawn grey.
        port: Port on this machine.

    Raises:
        EgoposeError: No frames.
        MissingExtra: viser is not installed.
    """
    if pose.n_frames == 0:
        raise EgoposeError("live: the sequence holds no frames; there is nothing to show")
    other = None if against is None else match(pose, against)
    scene = LiveScene(rig, port=port)
    try:
        slider = scene.server.gui.add_slider("frame", 0, max(1, pose.n_frames - 1), 1, 0)
        playing = scene.server.gui.add_checkbox("play", pose.n_frames > 1)
        print(f"live scene at {scene.address} (this machine only); Ctrl-C ends it")
        shown = -1
        while True:
            k = min(int(slider.value), pose.n_frames - 1)
            if k != shown:
                scene.show(pose, k)
                if other is not None:
                    scene.show(other, k, name="reference", reference=True)
                shown = k
            time.sleep(1 / 30)
            if playing.value and pose.n_frames > 1:
                slider.value = (k + 1) % pose.n_frames
    except KeyboardInterrupt:
        print("live scene ended")
    finally:
        scene.close()


def live_stream(
    poses: Iterable[PoseSequence], *, rig: Rig | None = None, port: int = 8080, paced: bool = False
) -> list[PoseSequence]:
    """Serve poses as they come, such as those of ``Predictor.stream``; ends with the stream.

    Args:
        poses: Sequences; the last frame of each is shown.
        rig: Cameras to draw.
        port: Port on this machine.
        paced: Show a pose not before its time: a file streams faster than it was recorded.

    Returns:
        What came, also when it was interrupted.
    """
    scene = LiveScene(rig, port=port)
    came: list[PoseSequence] = []
    try:
        print(f"live scene at {scene.address} (this machine only); Ctrl-C ends it", file=sys.stderr)
        begun: tuple[float, float] | None = None
        for pose in poses:
            if not pose.n_frames:
                continue
            came.append(pose)
            now, t = time.monotonic(), float(pose.times_s[-1])
            begun = begun or (now, t)
            if paced:
                time.sleep(max(0.0, begun[0] + t - begun[1] - now))
            scene.show(pose, pose.n_frames - 1)
    except KeyboardInterrupt:
        print("live scene ended", file=sys.stderr)
    finally:
        scene.close()
    return came
