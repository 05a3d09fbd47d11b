"""Weights files, vision transformers of other origin, and ONNX."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from egopose import Clip, Predictor, Trajectory
from egopose.errors import EgoposeError
from egopose.model.config import ModelConfig
from egopose.model.network import build
from egopose.model.vit import VisionTransformer, load_vit
from egopose.model.weights import find_weights, load_weights, save_weights, shipped
from tests.nets import CAMERA, TINY, pictures, shake, walk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, shake(build(TINY, 0)), notes={"stage": "test", "trained": ["body", "hands", "images"]})
    return path


def header(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as stream:
        return dict(stream.metadata())


def test_round_trip_is_exact(path: Path) -> None:
    weights = load_weights(path)
    assert weights.config == TINY
    assert weights.notes["stage"] == "test"
    own = shake(build(TINY, 0)).state_dict()
    assert all(torch.equal(own[k], v) for k, v in weights.state.items())
    assert not weights.model().training


def test_half_precision_is_half_the_size_and_close(path: Path, tmp_path: Path) -> None:
    small = tmp_path / "half.safetensors"
    save_weights(small, shake(build(TINY, 0)), half=True)
    assert small.stat().st_size < 0.7 * path.stat().st_size
    t, T = walk(20)
    a = Predictor.from_pretrained(path).predict(Clip(trajectory=Trajectory(t, T)))
    b = Predictor.from_pretrained(small).predict(Clip(trajectory=Trajectory(t, T)))
    assert 0 < np.abs(a.xyz - b.xyz).max() < 5e-3


def test_a_flipped_bit_is_found(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(EgoposeError, match="corrupted"):
        load_weights(path)


def test_truncated_foreign_and_other_versions_are_refused(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EgoposeError, match="not a whole safetensors file"):
        load_weights(tmp_path / "short.safetensors")
    state, meta = load_file(str(path)), header(path)
    save_file(state, str(tmp_path / "foreign.safetensors"))
    with pytest.raises(EgoposeError, match="not weights of this package"):
        load_weights(tmp_path / "foreign.safetensors")
    save_file(state, str(tmp_path / "old.safetensors"), metadata={**meta, "version": "0"})
    with pytest.raises(EgoposeError, match="version 0"):
        load_weights(tmp_path / "old.safetensors")
    with pytest.raises(EgoposeError, match="neither"):
        find_weights("no-such-size")
    with pytest.raises(EgoposeError, match="no such weights file"):
        find_weights(tmp_path / "gone.safetensors")
    with pytest.raises(EgoposeError, match="other settings"):
        load_weights(path, expect=ModelConfig())


def test_a_full_disk_is_said_in_one_line(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def full(state: object, name: str, **_: object) -> None:
        Path(name).write_bytes(b"half")
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    model = load_weights(path).model()
    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(EgoposeError, match=r"full\.safetensors: cannot write .*No space left on device"):
        save_weights(tmp_path / "full.safetensors", model)
    assert not list(tmp_path.rglob("*full*"))


def test_weights_of_another_network_are_refused(path: Path, tmp_path: Path) -> None:
    from egopose.model.weights import hash_tensors

    state = load_file(str(path))
    state["temporal.norm.weight"] = torch.ones(7)
    save_file(state, str(tmp_path / "other.safetensors"), metadata={**header(path), "sha256": hash_tensors(state)})
    with pytest.raises(EgoposeError, match=r"temporal\.norm\.weight"):
        load_weights(tmp_path / "other.safetensors")
    state = load_file(str(path))
    state["temporal.norm.weight"][0] = float("nan")
    save_file(state, str(tmp_path / "nan.safetensors"), metadata={**header(path), "sha256": hash_tensors(state)})
    with pytest.raises(EgoposeError, match="NaN"):
        load_weights(tmp_path / "nan.safetensors")


def test_no_gpu(path: Path) -> None:
    with pytest.raises(EgoposeError, match="device 'warp'"):
        Predictor.from_pretrained(path, device="warp")
    if not torch.cuda.is_available():
        with pytest.raises(EgoposeError, match="no CUDA GPU"):
            Predictor.from_pretrained(path, device="cuda")


def test_shipped_weights_load() -> None:
    for name in shipped():
        weights = load_weights(find_weights(name))
        assert weights.config.name == name
        assert "trained" in weights.notes


def tiny_vit(layout: str) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(layout=layout, dim=32, depth=2, heads=2, patch=8, grid=4, out_dim=16).eval()


def test_vit_equals_dinov2_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=8, image_size=32, layerscale_value=0.5
    )
    theirs = transformers.Dinov2Model(config).eval()
    ours = tiny_vit("dinov2")
    load_vit(ours, theirs.state_dict())
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = theirs(image).last_hidden_state[:, 1:]
        torch.testing.assert_close(ours.features(image), expected, atol=1e-5, rtol=1e-4)


def test_vit_equals_dinov3_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.DINOv3ViTConfig(
        hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, patch_size=8,
        image_size=32, num_register_tokens=4, layerscale_value=0.5,
    )  # fmt: skip
    theirs = transformers.DINOv3ViTModel(config).eval()
    ours = tiny_vit("dinov3")
    load_vit(ours, theirs.state_dict())
    image = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        expected = theirs(image).last_hidden_state[:, 5:]
        torch.testing.assert_close(ours.features(image), expected, atol=1e-5, rtol=1e-4)


def original_layout(model: VisionTransformer) -> dict[str, torch.Tensor]:
    """Random tensors under the key names of the original DINOv2 repository."""
    g = torch.Generator().manual_seed(3)
    d = model.dim
    out = {"cls_token": (1, 1, d), "pos_embed": (1, 1 + model.grid**2, d), "mask_token": (1, d),
           "patch_embed.proj.weight": (d, 3, 8, 8), "patch_embed.proj.bias": (d,), "norm.weight": (d,),
           "norm.bias": (d,)}  # fmt: skip
    for i in range(len(model.blocks)):
        for name, shape in (
            ("norm1.weight", (d,)), ("norm1.bias", (d,)), ("attn.qkv.weight", (3 * d, d)), ("attn.qkv.bias", (3 * d,)),
            ("attn.proj.weight", (d, d)), ("attn.proj.bias", (d,)), ("ls1.gamma", (d,)), ("norm2.weight", (d,)),
            ("norm2.bias", (d,)), ("mlp.fc1.weight", (4 * d, d)), ("mlp.fc1.bias", (4 * d,)),
            ("mlp.fc2.weight", (d, 4 * d)), ("mlp.fc2.bias", (d,)), ("ls2.gamma", (d,)),
        ):  # fmt: skip
            out[f"blocks.{i}.{name}"] = shape
    return {k: torch.randn(s, generator=g) for k, s in out.items()}


def test_vit_loads_the_original_layout_and_refuses_others() -> None:
    model = tiny_vit("dinov2")
    state = original_layout(model)
    projection = model.project.weight.clone()
    load_vit(model, state)
    assert torch.equal(model.blocks[1].qkv.weight, state["blocks.1.attn.qkv.weight"])
    assert torch.equal(model.position, state["pos_embed"])
    assert torch.equal(model.project.weight, projection)
    del state["blocks.1.ls2.gamma"]
    with pytest.raises(EgoposeError, match="missing"):
        load_vit(model, state)
    bad = original_layout(model)
    bad["norm.weight"] = torch.ones(5)
    with pytest.raises(EgoposeError, match=r"norm\.weight has shape"):
        load_vit(model, bad)


def test_vit_network_runs() -> None:
    config = ModelConfig(name="vt", encoder="vit", vit_layout="dinov3", vit_dim=32, vit_depth=1, vit_heads=2,
                         vit_patch=16, image_px=64, hand_px=32, dim=32, heads=2, decoder_layers=1,
                         temporal_layers=1)  # fmt: skip
    from egopose.model.engine import TorchEngine

    predictor = Predictor(TorchEngine(build(config, 0)))
    t, T = walk(6)
    out = predictor.predict(Clip(pictures(6), CAMERA, Trajectory(t, T)))
    assert np.isfinite(out.xyz).all()


def test_onnx_without_torch_equals_torch(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from egopose.model.onnx import export_onnx

    with np.errstate(all="ignore"):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            folder = export_onnx(load_weights(path), tmp_path / "onnx")
    t, T = walk(25)
    clip = Clip(pictures(25), CAMERA, Trajectory(t, T))
    for mode in ("causal", 3):
        a = Predictor.from_pretrained(path).predict(clip, mode=mode)
        b = Predictor.from_onnx(folder).predict(clip, mode=mode)
        np.testing.assert_allclose(a.xyz, b.xyz, atol=1e-4)
        np.testing.assert_allclose(a.sigma, b.sigma, atol=1e-4)
    sensors = Clip(trajectory=Trajectory(t, T))
    a = Predictor.from_pretrained(path).predict(sensors, mode="causal")
    b = Predictor.from_onnx(folder).predict(sensors, mode="causal")
    np.testing.assert_allclose(a.xyz, b.xyz, atol=1e-4)
    with pytest.raises(EgoposeError, match="step by step"):
        Predictor.from_onnx(folder).predict(sensors)
    # a process that only has onnxruntime must not need torch
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np; from egopose import Predictor, Clip, Trajectory\n"
        f"p = Predictor.from_onnx({str(folder)!r})\n"
        "T = np.tile(np.eye(4), (5, 1, 1)); T[:, 2, 3] = 1.6\n"
        "T[:, :3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]\n"
        "print(p.predict(Clip(trajectory=Trajectory(np.arange(5) / 30, T)), mode='causal').xyz.shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "(5, 59, 3)" in done.stdout, done.stderr
    (folder / "read.onnx").write_bytes((folder / "read.onnx").read_bytes()[:-1] + b"x")
    with pytest.raises(EgoposeError, match="corrupted"):
        Predictor.from_onnx(folder)
    # older exports read hands otherwise
    about = json.loads((folder / "network.json").read_text())
    (folder / "network.json").write_text(json.dumps({**about, "version": 1}))
    with pytest.raises(EgoposeError, match="export it again"):
        Predictor.from_onnx(folder)


def test_the_card_that_ships_is_of_the_weights_that_ship() -> None:
    path = find_weights("nano")
    assert f"`{load_weights(path).sha256}`" in path.with_suffix(".md").read_text()
