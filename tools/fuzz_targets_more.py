"""Readers outside ``egopose.io``: videos, configurations, weights, training data, kept copies, manifests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from egopose.errors import EgoposeError
from tools.fuzz_targets import Target


def _video(folder: Path) -> Path:
    from egopose.io.video import VideoWriter

    rng = np.random.default_rng(3)
    with VideoWriter(folder / "clip.mp4", fps=10, crf=40) as video:
        for _ in range(4):
            video.add(np.kron(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8)))
    return folder / "clip.mp4"


def _read_video(path: Path) -> Any:
    from egopose.io.video import probe, read_frames

    info = probe(path)
    assert info.times_s.size == info.n_frames
    assert np.isfinite(info.times_s).all()
    assert (np.diff(info.times_s) > 0).all()
    assert np.isfinite(info.fps)
    assert info.fps > 0
    for i, frame in enumerate(read_frames(path)):
        assert frame.image.dtype == np.uint8
        assert frame.image.ndim == 3
        if i > 8:
            break
    return info.size


def _config_targets() -> list[Target]:
    from egopose.config import load_config, preset_names, read_yaml
    from egopose.model.config import ModelConfig
    from egopose.train.config import TrainConfig
    from egopose.train.synthetic.dataset import SynthConfig
    from egopose.triangulate.take import TriangulateConfig

    presets = Path(__file__).resolve().parent.parent / "configs"

    def preset(name: str) -> Callable[[Path], Path]:
        def build(folder: Path) -> Path:
            assert name in preset_names()
            (folder / "config.yaml").write_bytes((presets / f"{name}.yaml").read_bytes())
            return folder / "config.yaml"

        return build

    def defaults(kind: type) -> Callable[[Path], Path]:
        def build(folder: Path) -> Path:
            import yaml

            from egopose.config import config_dict

            (folder / "config.yaml").write_text(yaml.safe_dump(config_dict(kind())))
            return folder / "config.yaml"

        return build

    def triangulate(folder: Path) -> Path:
        return defaults(TriangulateConfig)(folder)

    def small(folder: Path) -> Path:
        text = "&a name: x\nsizes: [1, 2.5, 1e3, .inf]\nnested: {b: *a, c: null, d: 2024-01-01}\n"
        (folder / "config.yaml").write_text(text)
        return folder / "config.yaml"

    return [
        Target("config-model", defaults(ModelConfig), lambda path: load_config(ModelConfig, path), 0.5),
        Target("config-train", preset("small"), lambda path: load_config(TrainConfig, path), 0.5),
        Target("config-synth", preset("synth"), lambda path: load_config(SynthConfig, path)),
        Target("config-triangulate", triangulate, lambda path: load_config(TriangulateConfig, path), 0.5),
        Target("config-yaml", small, lambda path: read_yaml(path)[0]),
    ]


def _tiny_weights(folder: Path) -> Path:
    import msgspec

    from egopose.model.network import build
    from egopose.model.weights import save_weights
    from tests.nets import TINY

    path = folder / "tiny.safetensors"
    smaller = msgspec.structs.replace(TINY, encoder_width=0.05, dim=8, heads=1, temporal_layers=1)
    save_weights(path, build(smaller, 0), notes={"stage": "test"}, half=True)
    return path


def _read_weights(path: Path) -> Any:
    from egopose.model.weights import load_weights

    return load_weights(path)


def _rendered(folder: Path) -> Path:
    from egopose.camera import Camera

    place = folder / "data" / "clip_000000"
    place.mkdir(parents=True)
    rng = np.random.default_rng(2)
    camera = Camera.pinhole(20.0, None, (16, 12), name="ego")
    about = {"format": "egopose.rendered/2", "index": 0, "name": "n", "subject": "s", "camera": camera.to_dict()}
    (place / "clip.json").write_text(json.dumps(about))
    n = 3
    np.save(place / "images.npy", rng.integers(0, 255, (n, 12, 16, 3), dtype=np.uint8))
    np.savez(
        place / "labels.npz", times_s=np.arange(n) / 30, T_world_camera=np.tile(np.eye(4), (n, 1, 1)),
        joints_world=rng.normal(size=(n, 59, 3)), visible=np.ones((n, 59), bool), in_view=np.ones((n, 59), bool),
    )  # fmt: skip
    return folder / "data"


def _read_rendered(path: Path) -> Any:
    from egopose.train.rendered_files import load_rendered

    return load_rendered(path)


def _motion(folder: Path) -> Path:
    from egopose.skeleton import BODY17
    from egopose.train.synthetic.sources import SOURCE_JOINTS

    rng = np.random.default_rng(2)
    names = [*BODY17.joints, *(j for j in SOURCE_JOINTS if j not in BODY17.joints)]
    joints = rng.normal(size=(6, len(names), 3)).astype(np.float32)
    np.savez(
        folder / "motion.npz", joints=joints, joint_names=np.array(names),
        head_rot=np.tile(np.eye(3, dtype=np.float32), (6, 1, 1)), head_pos=rng.normal(size=(6, 3)).astype(np.float32),
        clip_ptr=np.array([0, 2, 6]), clip_name=np.array(["a", "b"]), subject=np.array(["s", "t"]),
        tier=np.array(["A", "B"]), fps=np.array(30.0),
    )  # fmt: skip
    return folder / "motion.npz"


def _read_motion(path: Path) -> Any:
    from egopose.train.windows import load_motion

    return load_motion(path)


def _read_recordings(path: Path) -> Any:
    from egopose.train.synthetic.sources import load_recordings

    return load_recordings([path])


def _body(folder: Path) -> Path:
    """The shipped body."""
    from egopose.body import load_body

    source = Path(__file__).resolve().parent.parent / "egopose" / "assets" / "body.npz"
    with np.load(source) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez_compressed(folder / "body.npz", **arrays)
    load_body(folder / "body.npz")
    return folder / "body.npz"


def _read_body(path: Path) -> Any:
    from egopose.body import load_body

    return load_body(path)


def _smpl_parameters(folder: Path) -> Path:
    rng = np.random.default_rng(4)
    np.savez(
        folder / "amass.npz", poses=rng.normal(0, 0.3, (3, 156)), trans=np.zeros((3, 3)), betas=np.zeros(16),
        mocap_framerate=np.array(120.0),
    )  # fmt: skip
    return folder / "amass.npz"


def _read_smpl(path: Path) -> Any:
    from egopose.smpl import read_parameters

    return read_parameters(path, "smplh")


def _smpl_model(folder: Path) -> Path:
    V, J = 60, 24
    np.savez(
        folder / "model.npz", v_template=np.zeros((V, 3), np.float32), f=np.zeros((4, 3), np.int64),
        shapedirs=np.zeros((V, 3, 2), np.float32), posedirs=np.zeros((V, 3, 9 * (J - 1)), np.float16),
        J_regressor=np.ones((J, V), np.float32) / V, weights=np.ones((V, J), np.float32) / J,
        kintree_table=np.zeros((2, J), np.int64),
    )  # fmt: skip
    return folder / "model.npz"


def _read_smpl_model(path: Path) -> Any:
    from egopose.smpl import read_model_file

    return read_model_file(path, "smpl")


def _detected(folder: Path) -> Path:
    from egopose.skeleton import BODY17

    (folder / "kept").mkdir()
    for view in ("a", "b"):
        np.savez_compressed(
            folder / "kept" / f"{view}.npz", uv_px=np.zeros((3, 17, 2), np.float32),
            score=np.ones((3, 17), np.float32), frames=np.arange(3), fps=30.0, size=np.array([64, 48]),
            skeleton=BODY17.name, notes=np.array(["dark"]),
        )  # fmt: skip
    return folder / "kept"


def _read_detected(path: Path) -> Any:
    """As detection takes finished views from its cache: what is not usable is made again."""
    from egopose.detect.run import _join, _read, _usable

    places = {p.stem: p for p in sorted(path.glob("*.npz")) if _usable(p)}
    return _join({name: _read(p) for name, p in places.items()}, "fake", {}, []) if places else None


def _columns(kind: str) -> tuple[Callable[[Path], Path], Callable[[Path], Any]]:
    """A text file with its kept copy; whatever the copy holds, the result is that of the text."""
    from egopose.io.columnar_cache import cache_path
    from egopose.io.ego_exo4d_annotation_arrays import read_annotation_arrays
    from egopose.io.ego_exo4d_files import read_body_file
    from tests.io_cases import EXAMPLES
    from tools.fuzz_check import check

    name, read = {
        "body": ("ego-exo4d-body", read_body_file),
        "annotation": ("ego-exo4d-annotation", read_annotation_arrays),
    }[kind]

    def text_of(folder: Path) -> Path:
        source = folder / "text"
        source.mkdir(exist_ok=True)
        found = next(source.glob("*.json"), None)
        return found if found is not None else EXAMPLES[name](source)

    def build(folder: Path) -> Path:
        source = text_of(folder)
        os.environ["EGOPOSE_CACHE"] = str(folder)
        read(source, cache=True)
        (copy,) = (folder / "columns").glob("*.npz")
        copy.rename(folder / "copy.npz")
        return folder / "copy.npz"

    def run(path: Path) -> Any:
        source = text_of(path.parent)
        os.environ["EGOPOSE_CACHE"] = str(path.parent)
        place = cache_path(source, _kind_of(read))
        place.parent.mkdir(exist_ok=True)
        # a link, so that a copy that is written again does not replace the input
        place.unlink(missing_ok=True)
        os.link(path, place)
        found = read(source, cache=True)
        check(found)
        return found

    return build, run


def _kind_of(read: Callable[..., Any]) -> str:
    from egopose.io import ego_exo4d_annotation_arrays as arrays

    return "body1" if read.__name__ == "read_body_file" else arrays.VERSION


def _manifest(folder: Path) -> Path:
    from egopose.shard import Shard, run_shards

    shards = [Shard(name, {"x": i}) for i, name in enumerate("abc")]
    run_shards(_double, shards, manifest=folder / "manifest.json", workers=0)
    return folder / "manifest.json"


def _double(x: int) -> dict[str, int]:
    return {"twice": 2 * x}


def _read_manifest(path: Path) -> Any:
    from egopose.shard import Shard, run_shards

    outcomes = run_shards(_double, [Shard(n, {"x": i}) for i, n in enumerate("abc")], manifest=path, workers=0)
    assert [outcome.shard.name for outcome in outcomes] == ["a", "b", "c"]
    assert all(outcome.error is None for outcome in outcomes)
    return None


def _identity(path: Path) -> str:
    """The smallest network there is; gives the hash of its file."""
    from onnx import TensorProto, helper

    from egopose.files import sha256_file

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return sha256_file(path)


def _onnx_manifest(folder: Path) -> Path:
    from egopose.config import config_dict
    from egopose.model import onnx
    from tests.nets import TINY

    place = folder / "net"
    place.mkdir()
    graphs = {}
    for name in onnx.GRAPHS:
        graphs[name] = _identity(place / f"{name}.onnx")
    about = {"format": onnx.FORMAT, "version": onnx.VERSION, "config": config_dict(TINY), "weights_sha256": "0" * 64,
             "notes": {}, "graphs": graphs, "sigma_factor": [[[1.0] * 3] * 59] * 5}  # fmt: skip
    (place / onnx.MANIFEST).write_text(json.dumps(about))
    return place


def _read_onnx(path: Path) -> Any:
    from egopose.model.onnx import OnnxEngine

    return OnnxEngine(path).notes


def _rig_for_commands(folder: Path) -> Path:
    import egopose
    from tests.io_cases import ring

    egopose.save(ring(2), folder / "rig.toml")
    return folder / "rig.toml"


def _command_inputs(path: Path) -> Any:
    """What the verbs do with a file that the user names, whatever it is."""
    from egopose.commands.people import load_seen
    from egopose.commands.predict import load_camera, load_trajectory
    from egopose.commands.triangulate import load_rig
    from egopose.commands.view import load_pose

    found: list[Any] = []
    for read in (
        load_rig,
        load_seen,
        load_trajectory,
        load_pose,
        lambda p: load_camera(f"{p}:cam01", (64, 48)),
    ):
        try:
            found.append(read(path))
        except EgoposeError:
            continue
    return found


def more_targets() -> list[Target]:
    """Readers outside ``egopose.io``."""
    from tests.io_cases import EXAMPLES

    return [
        Target("video", _video, _read_video, 0.15),
        *_config_targets(),
        Target("weights", _tiny_weights, _read_weights, 0.1),
        Target("onnx-manifest", _onnx_manifest, _read_onnx, 0.2),
        Target("rendered", _rendered, _read_rendered),
        Target("motion", _motion, _read_motion),
        Target("recordings", _motion, _read_recordings),
        Target("body", _body, _read_body, 0.05),
        Target("smpl-parameters", _smpl_parameters, _read_smpl),
        Target("smpl-model", _smpl_model, _read_smpl_model),
        Target("detected", _detected, _read_detected),
        Target("columns-body", *_columns("body")),
        Target("columns-annotation", *_columns("annotation")),
        Target("shard-manifest", _manifest, _read_manifest),
        Target("command-rig", _rig_for_commands, _command_inputs, 0.4),
        Target("command-pose", EXAMPLES["native"], _command_inputs, 0.3),
        Target("command-trajectory", EXAMPLES["aria-trajectory"], _command_inputs, 0.3),
    ]
