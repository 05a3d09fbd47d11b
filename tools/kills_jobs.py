"""The small jobs that are killed, what makes their files whole, and how two results are compared."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from egopose.errors import EgoposeError


@dataclass(frozen=True)
class Job:
    """One verb with small inputs.

    Attributes:
        verb: Its name; "predict-video" is predict on a rendered clip with the camera that it was rendered through.
        make: Writes the inputs into a folder.
        arguments: Words of the command line, from the folder of inputs and the folder of results.
        modules: Imported before the child starts, so that a kill hits the job and not the imports.
        compared: How results are compared, in words.
    """

    verb: str
    make: Callable[[Path], None]
    arguments: Callable[[Path, Path], list[str]]
    modules: Sequence[str]
    compared: str

    def warm(self) -> None:
        """Import what the job needs; nothing is computed, so that no thread is running when the child is made."""
        for name in ("egopose.cli", "tyro", "egopose.io", *self.modules):
            importlib.import_module(name)


def _clip(work: Path) -> None:
    import egopose
    from egopose.io.video import VideoWriter
    from tests.nets import pictures, walk

    n = 24
    with VideoWriter(work / "clip.mp4", fps=30, crf=30) as video:
        for image in pictures(n):
            video.add(image)
    times, T = walk(n)
    egopose.save(egopose.Trajectory(times, T), work / "head.npz")


def _scene(work: Path) -> None:
    from egopose.train.synthetic.demo_clip import demo_clip

    demo_clip(work, seconds=1.0, side=128, samples=1)


def _exo(work: Path) -> None:
    import egopose
    from tests.io_cases import body_pose, ring

    n = 60
    rig = ring(4)
    pose = body_pose(4, missing=False)
    rng = np.random.default_rng(0)
    xyz = np.repeat(pose.xyz[:1], n, axis=0) + np.linspace(0, 0.3, n)[:, None, None].astype(np.float32)
    uv = rig.project(xyz) + rng.normal(0, 1, (4, n, 17, 2))
    seen = egopose.Observations2D(pose.skeleton, tuple(rig.names), np.arange(n), uv, fps=30.0)
    egopose.save(rig, work / "rig.toml")
    egopose.save(seen, work / "seen.npz")


def _settings(work: Path) -> None:
    (work / "synth.yaml").write_text("clips: 3\nframes: 3\nside: 48\nsamples: 1\nlens: pinhole\nhands_up: 0.0\n")


def _training(work: Path) -> None:
    import yaml

    from egopose.config import config_dict
    from egopose.skeleton import BODY17
    from tests.nets import TINY, walk

    rng = np.random.default_rng(0)
    n, clips = 60, 3
    T = np.concatenate([walk(n, seed=i)[1] for i in range(clips)])
    shape = rng.uniform(-0.3, 0.3, (17, 3))
    np.savez(
        work / "motion.npz", joints=(T[:, None, :3, 3] + shape - [0, 0, 0.6]).astype(np.float32),
        joint_names=np.array(BODY17.joints), head_rot=T[:, :3, :3], head_pos=T[:, :3, 3],
        clip_ptr=np.arange(clips + 1) * n, clip_name=np.array(["a", "b", "c"]), subject=np.array(["a", "b", "c"]),
        tier=np.array(["A"] * clips), fps=np.array(30.0),
    )  # fmt: skip
    network = {**config_dict(TINY), "dim": 16, "heads": 1, "temporal_layers": 1}
    settings = {"stage": "motion", "model": network, "motion": [str(work / "motion.npz")], "steps": 8, "batch": 2,
                "window": 8, "warmup": 2, "log_every": 1, "save_every": 2, "eval_every": 4, "threads": 1}  # fmt: skip
    (work / "train.yaml").write_text(yaml.safe_dump(settings))


def _submissions(work: Path) -> None:
    import egopose
    from tests.io_cases import body_pose

    rng = np.random.default_rng(1)
    truth, guess = {}, {}
    for i in range(6):
        pose = body_pose(4, seed=i)
        long = pose.replace(
            frames=np.arange(120) * 3, times_s=np.arange(120) / 10, xyz=np.repeat(pose.xyz, 30, axis=0), status=None
        )
        truth[f"take-{i}"] = long
        moved = (long.xyz + rng.normal(0, 0.02, long.xyz.shape)).astype(np.float32)
        guess[f"take-{i}"] = long.replace(xyz=np.nan_to_num(moved), status=None)
    names = {uid: f"takes/dance_{uid}" for uid in truth}
    for name, poses in (("truth", truth), ("guess", guess)):
        egopose.save(poses, work / f"{name}.json", format="ego-exo4d-body", missing="nan", take_names=names)


JOBS = {
    job.verb: job
    for job in (
        Job(
            "predict", _clip,
            lambda work, out: ["predict", str(work / "clip.mp4"), "--camera", "pinhole:90", "--trajectory",
                               str(work / "head.npz"), "--out", str(out / "pose.npz")],
            ("egopose.commands.predict", "egopose.predict", "egopose.clip", "egopose.model.weights", "av", "cv2"),
            "bytes",
        ),
        Job(
            "predict-video", _scene,
            lambda work, out: ["predict", str(work / "clip.mp4"), "--camera", str(work / "camera.json"),
                               "--trajectory", str(work / "trajectory.npz"), "--smooth",
                               "--out", str(out / "pose.npz")],
            ("egopose.commands.predict", "egopose.predict", "egopose.clip", "egopose.model.weights", "av", "cv2"),
            "bytes",
        ),
        Job(
            "triangulate", _exo,
            lambda work, out: ["triangulate", str(work / "rig.toml"), str(work / "seen.npz"), "--out",
                               str(out / "pose.npz")],
            ("egopose.commands.triangulate", "numba", "scipy.optimize", "egopose.kernels.triangulation"),
            "bytes",
        ),
        Job(
            "synth", _settings,
            lambda work, out: ["synth", str(work / "synth.yaml"), "--out", str(out / "clips")],
            ("egopose.commands.synth", "egopose.train.synthetic.dataset", "egopose.train.synthetic.preview",
             "egopose.train.rendered_files", "cv2"),
            "bytes",
        ),
        Job(
            "train", _training,
            lambda work, out: ["train", str(work / "train.yaml"), "--out", str(out / "run")],
            ("egopose.commands.train", "egopose.train.stages", "egopose.train.config", "torch"),
            "content: tensors, settings and log without the seconds that training took",
        ),
        Job(
            "evaluate", _submissions,
            lambda work, out: ["evaluate", "body", str(work / "guess.json"), str(work / "truth.json"), "--out",
                               str(out / "scores.json")],
            ("egopose.commands.evaluate", "egopose.metrics.protocols", "scipy.stats"),
            "bytes",
        ),
    )
}  # fmt: skip


def _files(out: Path) -> dict[str, Path]:
    """Files of final names: whatever is not hidden, and lies in no hidden folder."""
    found = {str(p.relative_to(out)): p for p in sorted(out.rglob("*")) if p.is_file()}
    return {name: p for name, p in found.items() if not any(part.startswith(".") for part in name.split("/"))}


def leftovers(out: Path) -> list[str]:
    """Temporary files and folders."""
    return [str(p.relative_to(out)) for p in sorted(out.rglob("*")) if p.name.startswith(".")]


def content(path: Path) -> Any:
    """What a file means, through its reader; seconds that a clock measured are left out.

    Raises:
        Exception: Whatever the reader raises when the file is not whole.
    """
    import egopose
    from egopose.files import parse_json, read_json
    from egopose.io.native import read_container

    suffix = path.suffix
    if suffix == ".npz":
        try:
            egopose.load(path)
            return read_container(path)
        except EgoposeError:
            from egopose.npz import read_npz

            return read_npz(path)
    if suffix == ".npy":
        return np.load(path)
    if suffix == ".json":
        return read_json(path)
    if suffix == ".jsonl":
        return [_untimed(parse_json(line, path)) for line in path.read_text().splitlines()]
    if suffix == ".safetensors":
        from egopose.model.weights import load_weights

        weights = load_weights(path)
        return weights.sha256, _untimed(weights.notes)
    if suffix == ".pt":
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True)
        return _plain(_untimed(state))
    if suffix in (".png", ".jpg"):
        import cv2

        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise EgoposeError(f"{path}: not a picture")
        return image
    if suffix in (".yaml", ".md", ".txt"):
        return path.read_text()
    raise EgoposeError(f"{path}: a file that nobody knows")


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _untimed(v) for k, v in value.items() if k not in ("seconds", "seconds_per_step", "minutes")}
    return value


def _plain(value: Any) -> Any:
    """Tensors as arrays, so that values can be compared."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "numpy"):
        return value.float().numpy() if value.dtype.is_floating_point else value.numpy()
    return value


def incomplete(out: Path) -> list[str]:
    """Files of final names that their readers do not read; a folder of a clip must hold all its files."""
    bad = []
    for name, path in _files(out).items():
        try:
            content(path)
        except Exception as error:
            bad.append(f"{name}: {type(error).__name__}: {error}"[:300])
    for folder in sorted(out.rglob("clip_*")):
        if folder.is_dir() and not folder.name.startswith("."):
            lost = {"clip.json", "images.npy", "labels.npz"} - {p.name for p in folder.iterdir()}
            bad += [f"{folder.name}: lacks {name}" for name in sorted(lost)]
    return bad


def different(wanted: Path, found: Path) -> list[str]:
    """What differs between two folders of results: by bytes, or by content for files that hold measured seconds."""
    from tools.fuzz_check import same

    a, b = _files(wanted), _files(found)
    out = [f"{name}: only in one of them" for name in sorted(a.keys() ^ b.keys())]
    for name in sorted(a.keys() & b.keys()):
        if a[name].read_bytes() == b[name].read_bytes():
            continue
        if a[name].suffix not in (".jsonl", ".safetensors", ".pt"):
            out.append(f"{name}: bytes differ")
        elif not same(content(a[name]), content(b[name])):
            out.append(f"{name}: content differs")
    return out
