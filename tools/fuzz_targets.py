"""What is fuzzed: every reader of the package, each with a small valid input and a call that reads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from egopose.errors import EgoposeError


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        name: What counts and findings are filed under.
        build: Writes a valid input into an empty folder and gives the path to read, a file or a folder.
        read: Reads that path; what it returns is checked by :func:`tools.fuzz_check.check`.
        share: Inputs relative to the others; slow readers get fewer.
    """

    name: str
    build: Callable[[Path], Path]
    read: Callable[[Path], Any]
    share: float = 1.0


def _formats() -> list[Target]:
    import egopose
    from tests.io_cases import EXAMPLES, OPTIONS

    def reader(name: str) -> Callable[[Path], Any]:
        return lambda path: egopose.load(path, format=name, **OPTIONS.get(name, {}))

    slow = {"parquet": 0.3, "opencv": 0.6, "openpose": 0.7}
    examples = {**EXAMPLES, "ego-exo4d-annotation": _annotation}
    targets = [Target(name, build, reader(name), slow.get(name, 1.0)) for name, build in sorted(examples.items())]
    return [*targets, *_native_kinds()]


def _native_kinds() -> list[Target]:
    """The other kinds of the package's own file, and detection without a stated format."""
    import egopose
    from egopose import rigid
    from tests import io_cases
    from tests.io_cases import body_pose, observations, ring

    def trajectory(folder: Path) -> Path:
        T = np.stack([rigid.make_transform(rigid.rotation_from_vector([0.1 * i, 0.2, 0]), [i, 0, 1.6]) for i in (0, 1)])
        egopose.save(egopose.Trajectory([0.0, 0.5], T), folder / "head.npz")
        return folder / "head.npz"

    def seen(folder: Path) -> Path:
        egopose.save(observations(), folder / "seen.npz")
        return folder / "seen.npz"

    def full(folder: Path) -> Path:
        pose = body_pose()
        egopose.save(
            pose.replace(
                sigma=np.full(pose.xyz.shape[:2], 0.01, np.float32),
                covariance=np.tile(np.eye(3, dtype=np.float32) * 1e-4, (*pose.xyz.shape[:2], 1, 1)),
                space="camera:ego",
                provenance={"source": "x", "n": 3},
            ),
            folder / "pose.npz",
            compress=False,
        )
        return folder / "pose.npz"

    def xml(folder: Path) -> Path:
        return io_cases._opencv_xml(folder)

    def rig(folder: Path) -> Path:
        egopose.save(ring(fisheye=True), folder / "rig.json")
        return folder / "rig.json"

    load = egopose.load
    return [
        Target("native-trajectory", trajectory, lambda path: load(path, format="native")),
        Target("native-observations", seen, lambda path: load(path, format="native")),
        Target("native-full", full, lambda path: load(path, format="native")),
        Target("opencv-xml", xml, lambda path: load(path, format="opencv", size=(1280, 720)), 0.6),
        Target("detect-rig", rig, load),
        Target("detect-npz", full, load, 0.5),
        Target("detect-csv", io_cases.EXAMPLES["pose-csv"], load),
        Target("detect-json", io_cases.EXAMPLES["ego-exo4d-body"], load),
    ]


def _ego_exo4d() -> list[Target]:
    from egopose.commands.validate import read_index, run_validate
    from egopose.ego_exo4d.cameras import read_raw, read_undistorted
    from egopose.io.ego_exo4d_annotation_arrays import read_annotation_arrays
    from egopose.io.ego_exo4d_cameras import read_camera_pose, read_ego_poses
    from egopose.io.ego_exo4d_files import read_body_file, read_hand_file
    from egopose.io.ego_exo4d_headposes import read_head_extrinsics
    from tests.io_cases import EXAMPLES
    from tools.fuzz_check import same

    def both(read: Callable[..., Any]) -> Callable[[Path], Any]:
        """The fast scanner and the general parser must agree, in results and in refusals."""

        def run(path: Path) -> Any:
            try:
                slow, refusal = read(path, scanner=False, cache=False), None
            except EgoposeError as error:
                slow, refusal = None, error
            try:
                fast = read(path, scanner=True, cache=False)
            except EgoposeError:
                if refusal is None:
                    raise AssertionError("the scanner refuses what the parser reads") from None
                raise
            if refusal is not None:
                raise AssertionError(f"the scanner reads what the parser refuses: {refusal}")
            assert same(slow, fast), "the scanner and the parser read different values"
            return fast

        return run

    def index(folder: Path) -> Path:
        (folder / "index.json").write_text(json.dumps({"u1": [0, 3, 6], "u2": [1]}))
        return folder / "index.json"

    body, hand = EXAMPLES["ego-exo4d-body"], EXAMPLES["ego-exo4d-hand"]
    poses, gopro = EXAMPLES["ego-exo4d-camera-pose"], EXAMPLES["ego-exo4d-gopro-calibs"]

    def ego(path: Path) -> Any:
        return read_camera_pose(path, part="trajectory"), read_ego_poses(path)

    return [
        Target("exo-annotation-arrays", _annotation, both(read_annotation_arrays)),
        Target("exo-body-file", body, both(read_body_file)),
        Target("exo-hand-file", hand, both(read_hand_file)),
        Target("exo-head-extrinsics", poses, read_head_extrinsics),
        Target("exo-head-trajectory", poses, ego),
        Target("exo-cameras-raw", gopro, read_raw),
        Target("exo-cameras-undistorted", poses, read_undistorted),
        Target("validate-body", body, lambda path: run_validate("body", path).to_dict()),
        Target("validate-hand", hand, lambda path: run_validate("hand", path).to_dict()),
        Target("validate-index", index, lambda path: read_index(path, "body")),
        Target("exo-index", _annotations, _read_annotations, 0.3),
        Target("exo-index-kept", _kept_annotations, _read_kept, 0.3),
        Target("exo-dataset", _dataset, _read_dataset, 0.1),
    ]


def _annotation(folder: Path) -> Path:
    """An annotation of few frames, views and joints."""
    from tests.io_cases import annotation

    content: dict[str, Any] = {}
    for frame, people in [(f, p) for f, p in annotation().items() if p][:3]:
        person = people[0]
        joints = list(person["annotation3D"])[:5]
        views = list(person["annotation2D"].items())[:2]
        flat = {view: {j: seen[j] for j in joints if j in seen} for view, seen in views}
        solid = {j: person["annotation3D"][j] for j in joints}
        content[frame] = [{"annotation3D": solid, "annotation2D": flat}]
    (folder / "0a1b-take.json").write_text(json.dumps(content))
    return folder / "0a1b-take.json"


def _annotations(folder: Path) -> Path:
    (folder / "takes").mkdir()
    content = json.loads(_annotation(folder).read_text())
    (folder / "0a1b-take.json").unlink()
    for name, frames in (("a", 3), ("b", 1)):
        (folder / "takes" / f"{name}.json").write_text(json.dumps(dict(list(content.items())[:frames])))
    return folder / "takes"


def _index(path: Path, kept: Path) -> Any:
    from egopose.ego_exo4d.index import AnnotationIndex

    return AnnotationIndex({p.stem: p for p in sorted(path.glob("*.json"))}, "body", kept)


def _read_annotations(path: Path) -> Any:
    kept = path.parent / "kept"
    shutil.rmtree(kept, ignore_errors=True)
    index = _index(path, kept)
    index.update()
    return [index[uid] for uid in index if uid not in index.refused]


def _kept_annotations(folder: Path) -> Path:
    takes = _annotations(folder)
    _index(takes, folder / "takes" / "columns").update()
    return takes


def _read_kept(path: Path) -> Any:
    index = _index(path, path / "columns")
    index.update()
    return [index[uid] for uid in index if uid not in index.refused]


def _dataset(folder: Path) -> Path:
    from egopose.ego_exo4d.layout import annotation_path, camera_pose_path
    from tests.io_cases import EXAMPLES, annotation, camera_pose, gopro_csv, ring

    root = folder / "root"
    take = root / "takes" / "walk_1"
    (take / "trajectory").mkdir(parents=True)
    cameras = [{"cam_id": c.name, "is_ego": False} for c in ring()] + [{"cam_id": "aria01", "is_ego": True}]
    info = {"take_uid": "u1", "take_name": "walk_1", "root_dir": "takes/walk_1", "task_id": 101,
            "capture": {"capture_name": "walk", "cameras": cameras}, "timesync_start_idx": 0,
            "timesync_end_idx": 4}  # fmt: skip
    splits = {"take_uid_to_split": {"u1": "train"}, "take_uid_to_benchmark": {"u1": ["ego_pose"]}}
    rows = "\n".join(f"{10_000_000 * i}" for i in range(6))
    texts = {
        "takes.json": json.dumps([info]),
        "captures.json": json.dumps([{"capture_name": "walk"}]),
        "annotations/splits.json": json.dumps(splits),
        "captures/walk/timesync.csv": "aria01_214-1_capture_timestamp_ns\n" + rows + "\n",
        annotation_path("train", "body", "manual", "u1"): json.dumps(annotation()),
        camera_pose_path("train", "u1"): json.dumps(camera_pose(ring())),
        "takes/walk_1/trajectory/gopro_calibs.csv": gopro_csv(ring(fisheye=True)),
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    EXAMPLES["aria-trajectory"](take / "trajectory")
    EXAMPLES["aria-online-calibration"](take / "trajectory")
    return root


def _read_dataset(path: Path) -> Any:
    """Everything a take offers; a part that is refused does not hide the next."""
    from egopose.ego_exo4d.dataset import EgoExo4D

    data = EgoExo4D(path, cache=path.parent / "columns")
    found: list[Any] = []
    for take in list(data)[:3]:
        assert isinstance(take.scenario, str)
        for part in (
            lambda t: t.rig("raw"),
            lambda t: t.rig("undistorted"),
            lambda t: t.head_poses(policy="skip")[1],
            lambda t: t.device_trajectory(),
            lambda t: t.head_trajectory(),
            lambda t: t.joints_3d("body"),
            lambda t: t.joints_2d("body"),
            lambda t: t.video("cam01"),
        ):
            try:
                found.append(part(take))
            except EgoposeError:
                continue
    data.release()
    return found


def all_targets() -> dict[str, Target]:
    """Every reader by name."""
    from tools.fuzz_targets_more import more_targets

    targets = [*_formats(), *_ego_exo4d(), *more_targets()]
    names = [target.name for target in targets]
    assert len(set(names)) == len(names)
    return {target.name: target for target in targets}
