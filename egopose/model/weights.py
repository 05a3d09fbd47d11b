"""Weights files: safetensors with the configuration, a version and a hash inside; nothing that can run code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from egopose.config import config_dict, convert_config
from egopose.errors import EgoposeError
from egopose.files import atomic_path
from egopose.model.config import ModelConfig
from egopose.model.network import EgoPoseNet, build

FORMAT = "egopose-weights"
VERSION = 8
"""Raised whenever a file of the older kind would no longer mean the same."""


@dataclass(frozen=True)
class Weights:
    """A weights file in memory.

    Attributes:
        config: The network they belong to.
        state: Tensors by name, float32.
        notes: How they came about: stages, steps, scores on held-out subjects, what was not trained.
        sha256: Hash of the tensors, as stored in the file.
    """

    config: ModelConfig
    state: dict[str, Tensor]
    notes: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""

    def model(self) -> EgoPoseNet:
        """The network with these weights, ready to predict."""
        network = build(self.config, 0)
        network.load_state_dict(self.state)
        return network.eval()


def hash_tensors(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def save_weights(
    path: str | os.PathLike[str], model: EgoPoseNet, *, notes: Mapping[str, Any] | None = None, half: bool = False
) -> str:
    """Write a network's weights.

    Args:
        path: The file, ``.safetensors``.
        model: The network.
        notes: Kept in the file; must be plain JSON values.
        half: Store as float16; batch statistics and calibration stay float32.

    Returns:
        The hash of the tensors.

    Raises:
        EgoposeError: The file cannot be written or the notes are not JSON.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    state = {}
    for name, tensor in model.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        exact = "running_" in name or name == "sigma_factor" or not tensor.dtype.is_floating_point
        state[name] = tensor.clone() if exact or not half else tensor.half()
    digest = hash_tensors(state)
    try:
        text = json.dumps(dict(notes or {}), allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise EgoposeError(f"{path}: the notes are not plain JSON values ({error})") from error
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "config": json.dumps(config_dict(model.config), sort_keys=True),
        "sha256": digest,
        "notes": text,
    }
    with atomic_path(path) as temporary:
        try:
            save_file(state, str(temporary), metadata=metadata)
        except SafetensorError as error:
            raise EgoposeError(
                f"{path}: cannot write ({' '.join(str(error).split())}); choose a place with room"
            ) from error
    return digest


def load_weights(path: str | os.PathLike[str], *, expect: ModelConfig | None = None) -> Weights:
    """Read and check a weights file.

    Args:
        path: The file.
        expect: Refuse weights of another network than this.

    Raises:
        EgoposeError: Not such a file, of another version, corrupted (the hash differs), not finite, or of another
            network.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise EgoposeError(f"{path}: no such weights file")
    try:
        with safe_open(str(path), framework="pt") as stream:
            metadata = stream.metadata() or {}
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise EgoposeError(
            f"{path}: not a whole safetensors file ({' '.join(str(error).split())}); fetch or copy it again"
        ) from error
    if metadata.get("format") != FORMAT:
        raise EgoposeError(f"{path}: these are not weights of this package (no {FORMAT!r} in the header)")
    if metadata.get("version") != str(VERSION):
        raise EgoposeError(
            f"{path}: weights of version {metadata.get('version')}, this package reads version {VERSION}; "
            "install the matching package or fetch matching weights"
        )
    digest = hash_tensors(state)
    if digest != metadata.get("sha256"):
        raise EgoposeError(
            f"{path}: corrupted, the tensors hash to {digest[:12]}..., the header says "
            f"{str(metadata.get('sha256'))[:12]}...; fetch or copy the file again"
        )
    try:
        config = convert_config(ModelConfig, json.loads(metadata["config"]), f"{path}: config in the header")
        notes = json.loads(metadata.get("notes", "{}"))
    except (KeyError, json.JSONDecodeError) as error:
        raise EgoposeError(f"{path}: the header's config or notes cannot be read ({error})") from error
    if expect is not None and expect != config:
        raise EgoposeError(f"{path}: weights of the network {config.name!r} with other settings than asked for")
    state = {name: t.float() if t.dtype.is_floating_point else t for name, t in state.items()}
    for name, tensor in state.items():
        if not torch.isfinite(tensor.float()).all():
            raise EgoposeError(f"{path}: tensor {name!r} holds NaN or infinity")
    _check_names(path, config, state)
    return Weights(config, state, notes, digest)


def _check_names(path: Path, config: ModelConfig, state: Mapping[str, Tensor]) -> None:
    with torch.device("meta"):
        wanted = {name: tuple(t.shape) for name, t in EgoPoseNet(config).state_dict().items()}
    found = {name: tuple(t.shape) for name, t in state.items()}
    if wanted != found:
        name = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
        raise EgoposeError(
            f"{path}: tensor {name!r} does not fit the network of this package (found {found.get(name)}, expected "
            f"{wanted.get(name)}); the weights belong to another version"
        )


def shipped() -> list[str]:
    """Names of the weights that come with the package."""
    folder = resources.files("egopose") / "weights"
    if not folder.is_dir():
        return []
    return sorted(f.name.removesuffix(".safetensors") for f in folder.iterdir() if f.name.endswith(".safetensors"))


def find_weights(name_or_path: str | os.PathLike[str]) -> Path:
    """A weights file by path, or the shipped one of that name.

    Raises:
        EgoposeError: Neither exists.
    """
    path = Path(name_or_path)
    if path.suffix == ".safetensors" or path.exists():
        if not path.is_file():
            raise EgoposeError(f"{path}: no such weights file")
        return path
    if str(name_or_path) in shipped():
        return Path(str(resources.files("egopose") / "weights" / f"{name_or_path}.safetensors"))
    raise EgoposeError(
        f"{name_or_path}: neither a weights file nor shipped weights; shipped: {', '.join(shipped()) or 'none'}"
    )


def from_pretrained(name_or_path: str | os.PathLike[str]) -> Weights:
    """Shipped weights by name, or a file.

    Raises:
        EgoposeError: As :func:`find_weights` and :func:`load_weights`.
    """
    return load_weights(find_weights(name_or_path))
