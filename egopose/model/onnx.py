"""Export to ONNX with the cache as input and output, and the engine that runs such a folder without torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.config import config_dict, convert_config
from egopose.errors import EgoposeError, require
from egopose.files import atomic_path, read_json, sha256_file, write_json
from egopose.model.config import ModelConfig
from egopose.model.headmotion import HEAD_FEATURES
from egopose.model.imu import IMU_FEATURES
from egopose.model.numeric import SIGMA_ROWS, FrameArrays, Said, StepArrays
from egopose.model.rays import RAY_CHANNELS
from egopose.skeleton import BODY17_HANDS

Array = NDArray[np.float32]

MANIFEST = "network.json"
FORMAT, VERSION = "egopose-onnx", 7
GRAPHS = ("see", "encode", "push", "read")
_STEP = (
    "token", "up", "up_known", "height", "body_query", "image_known", "hand_query", "hand_wrist", "hand_offsets",
    "hand_logit", "hand_known",
)  # fmt: skip
_FRAME = (
    "head", "head_known", "imu", "imu_known", "image_tokens", "image_known", "hands", "hand_rays", "hand_known",
    "hand_axes", "hand_focal", "hand_distance",
)  # fmt: skip


def export_onnx(weights: Any, folder: str | os.PathLike[str], *, opset: int = 18) -> Path:
    """Write a network as four graphs, one step at a time, with a manifest.

    ``see``: image and rays to tokens and the hand finder's map. ``encode``: all of a frame to its token and hands.
    ``push``: token and cache to the cache with the step in it. ``read``: step and cache to joints and the new cache.

    Args:
        weights: :class:`egopose.model.weights.Weights`.
        folder: Where to.
        opset: ONNX operator set.

    Raises:
        MissingExtra: onnx or onnxscript is not installed.
        EgoposeError: The folder cannot be written.
    """
    import torch

    from egopose.model import export

    require("onnx", "onnx")
    require("onnxscript", "onnx")
    folder = Path(folder)
    model = weights.model()
    hashes = {}
    for name, (module, inputs, input_names, output_names) in export.graphs(model).items():
        with atomic_path(folder / f"{name}.onnx") as path:
            with torch.no_grad():
                program = torch.onnx.export(
                    module, inputs, input_names=input_names, output_names=output_names, dynamo=True,
                    opset_version=opset, verbose=False,
                )  # fmt: skip
            assert program is not None
            program.save(str(path), external_data=False)
        hashes[name] = sha256_file(folder / f"{name}.onnx")
    write_json(
        folder / MANIFEST,
        {
            "format": FORMAT,
            "version": VERSION,
            "config": config_dict(model.config),
            "weights_sha256": weights.sha256,
            "notes": weights.notes,
            "graphs": hashes,
            "sigma_factor": model.sigma_factor.tolist(),
        },
    )
    return folder


class OnnxEngine:
    """Runs an exported folder with onnxruntime; see ``engine.Engine``."""

    def __init__(self, folder: str | os.PathLike[str], *, threads: int = 1) -> None:
        """Open the graphs.

        Raises:
            MissingExtra: onnxruntime is not installed.
            EgoposeError: Not such a folder, of another version, or a graph differs from its hash.
        """
        ort = require("onnxruntime", "onnx")
        folder = Path(folder)
        manifest = read_json(folder / MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
            raise EgoposeError(f"{folder / MANIFEST}: not an exported network of version {VERSION}; export it again")
        graphs, notes = manifest.get("graphs"), manifest.get("notes")
        try:
            factors = np.array(manifest.get("sigma_factor"), dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            factors = np.empty(0)
        fits = (
            factors.shape == (len(SIGMA_ROWS), BODY17_HANDS.n_joints, 3)
            and (factors > 0).all()
            and (factors < 1e6).all()
        )
        config = manifest.get("config")
        if not (isinstance(graphs, dict) and isinstance(notes, dict) and isinstance(config, dict) and fits):
            raise EgoposeError(f"{folder / MANIFEST}: graphs, notes, config or sigma_factor are damaged; export again")
        self.config: ModelConfig = convert_config(ModelConfig, config, str(folder / MANIFEST))
        self.notes: dict[str, Any] = notes
        self.sha256: str = str(manifest.get("weights_sha256"))
        self.sigma_factor: Array = factors.astype(np.float32)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # spinning threads take the core from the decoder
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._sessions = {}
        for name in GRAPHS:
            path = folder / f"{name}.onnx"
            if sha256_file(path) != graphs.get(name):
                raise EgoposeError(f"{path}: corrupted, its hash differs from {MANIFEST}; export the network again")
            try:
                self._sessions[name] = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            except Exception as error:
                # the errors of onnxruntime share no base
                text = " ".join(str(error).split())
                raise EgoposeError(f"{path}: not a network that can be run ({text}); export it again") from error

    def _run(self, name: str, **inputs: Any) -> dict[str, NDArray[Any]]:
        session = self._sessions[name]
        wanted = {i.name for i in session.get_inputs()}
        outputs = [o.name for o in session.get_outputs()]
        feed = {k: np.ascontiguousarray(v) for k, v in inputs.items() if k in wanted}
        return dict(zip(outputs, session.run(None, feed)))

    def see(self, image: Array, rays: Array) -> tuple[Array, Array]:
        """See ``engine.Engine``; images one at a time."""
        parts = [self._run("see", image=image[i : i + 1], rays=rays[i : i + 1]) for i in range(len(image))]
        return np.concatenate([p["image_tokens"] for p in parts]), np.concatenate([p["heat"] for p in parts])

    def encode(self, frame: FrameArrays) -> StepArrays:
        """See ``engine.Engine``; frames one at a time."""
        n = frame.head.shape[0]
        full = {k: v for k, v in absent_frame(self.config, n)._asdict().items()}
        full.update({k: v for k, v in frame._asdict().items() if v is not None})
        out = [self._run("encode", **{k: v[i : i + 1] for k, v in full.items()}) for i in range(n)]
        joined = {k: np.concatenate([o[k] for o in out]) for k in out[0]}
        joined.update(
            up=full["head"][:, 2:5], up_known=full["head_known"],
            height=(full["head"][:, 0] * full["head_known"]).astype(np.float32), hand_known=full["hand_known"],
            image_known=full["image_known"],
        )  # fmt: skip
        return StepArrays(**{k: joined[k] for k in _STEP})

    def empty_cache(self) -> Array:
        """See ``engine.Engine``."""
        c = self.config
        return np.zeros((c.temporal_layers, 2, 1, c.heads, c.ring, c.dim // c.heads), dtype=np.float32)

    def push(self, token: Array, rotation: Array, cache: Array) -> Array:
        """See ``engine.Engine``."""
        return self._run("push", token=token, rotation=rotation, cache=cache)["new_cache"]

    def read(
        self, step: StepArrays, rotation: Array, first: NDArray[np.bool_], rest: NDArray[np.bool_], cache: Array
    ) -> tuple[Said, Array]:
        """See ``engine.Engine``."""
        values = {f"step_{k}": v for k, v in step._asdict().items() if v is not None}
        out = self._run("read", **values, rotation=rotation, first=first, rest=rest, cache=cache)
        return Said(**{k: out[k] for k in Said._fields}), out["new_cache"]


def absent_frame(config: ModelConfig, n: int = 1) -> FrameArrays:
    """N frames with every modality marked absent but all arrays there, as the fixed graphs want them."""
    g, c = config.image_px // config.stride, config.hand_px // config.fine_stride
    zeros = np.zeros
    return FrameArrays(
        head=zeros((n, HEAD_FEATURES), np.float32),
        head_known=zeros(n, bool),
        imu=zeros((n, IMU_FEATURES), np.float32),
        imu_known=zeros(n, bool),
        image_tokens=zeros((n, g * g, config.dim), np.float32),
        image_known=zeros(n, bool),
        hands=zeros((n, 2, 3, config.hand_px, config.hand_px), np.float32),
        hand_rays=zeros((n, 2, c, c, RAY_CHANNELS), np.float32),
        hand_known=zeros((n, 2), bool),
        hand_axes=np.tile(np.eye(3, dtype=np.float32), (n, 2, 1, 1)),
        hand_focal=np.ones((n, 2), np.float32),
        hand_distance=np.ones((n, 2), np.float32),
    )
