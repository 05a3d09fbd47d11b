"""The ego clip of ``egopose demo``: a few seconds, rendered on the spot, with camera, head poses and truth."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from egopose.camera import Rig
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import BODY17_HANDS
from egopose.train.synthetic.lenses import Kind
from egopose.train.synthetic.render import render_clip
from egopose.train.synthetic.sources import generated
from egopose.trajectory import Trajectory

SEED = 5


@dataclass(frozen=True)
class DemoClip:
    """The files of a rendered clip.

    Attributes:
        video: mp4; camera: native rig of one camera; trajectory: native head poses; truth: native 59 joints, where
            joints outside the image have the status OUT_OF_VIEW.
    """

    video: Path
    camera: Path
    trajectory: Path
    truth: Path


def demo_clip(
    out_folder: str | os.PathLike[str], *, seconds: float = 4.0, fps: float = 15.0, side: int = 320, seed: int = SEED,
    lens: Kind = "kannala_brandt", samples: int = 3,
) -> DemoClip:  # fmt: skip
    """Render a clip of generated motion into a folder.

    Args:
        out_folder: Where the files go; made if absent.
        seconds: Length.
        fps: Frames per second.
        side: Width and height, pixels.
        seed: Everything random follows from it.
        lens: Camera model.
        samples: Images averaged per frame.

    Raises:
        EgoposeError: The folder cannot be written.
    """
    from egopose.io import save
    from egopose.io.video import VideoWriter

    folder = Path(out_folder)
    folder.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(seconds * fps)) / fps
    source = generated(times, np.random.default_rng((seed, 1)))
    clip = render_clip(source, (seed, 2), side=side, lens=lens, samples=samples, hands_up=1.0)
    out = DemoClip(folder / "clip.mp4", folder / "camera.json", folder / "trajectory.npz", folder / "truth.npz")
    with VideoWriter(out.video, fps) as video:
        for image in clip["images"]:
            video.add(image)
    save(Rig([clip["camera"]]), out.camera)
    save(Trajectory(times, clip["T_world_camera"]), out.trajectory)
    status = np.where(clip["in_view"], JointStatus.OK, JointStatus.OUT_OF_VIEW).astype(np.uint8)
    truth = PoseSequence(
        BODY17_HANDS, np.arange(times.size), times, clip["joints_world"].astype(np.float32), status=status,
        space="world", provenance={"source": "rendered", "motion": source.name, "seed": seed},
    )  # fmt: skip
    save(truth, out.truth)
    return out
