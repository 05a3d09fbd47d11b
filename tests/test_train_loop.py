"""The loop: learning, resuming to the same bits, several processes, logs, losses and their masks."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from egopose.config import convert_config
from egopose.errors import EgoposeError
from egopose.model.losses import HIDDEN, SELDOM, LossConfig, _each_joint, total_loss
from egopose.model.network import build
from egopose.model.weights import load_weights
from egopose.skeleton import BODY17_HANDS
from egopose.train.augment import AugmentConfig
from egopose.train.config import TrainConfig
from egopose.train.loop import CHECKPOINT, Ema, Trainer, learning_rate
from egopose.train.motion import MotionSource
from egopose.train.prior import set_priors
from egopose.train.windows import MotionClip
from tests.nets import TINY, walk


def clips(n: int = 3, length: int = 60) -> list[MotionClip]:
    """Heads that walk with a rigid body below them."""
    rng = np.random.default_rng(0)
    from egopose.model.headmotion import canonical_from_world

    shape = rng.uniform(-0.3, 0.3, (59, 3))
    shape[:, 2] += 1.0
    out = []
    for i in range(n):
        t, T = walk(length, seed=i)
        C = canonical_from_world(T)
        joints = np.einsum("tij,kj->tki", C[:, :3, :3], shape) + C[:, None, :3, 3]
        out.append(MotionClip(f"c{i}", f"s{i}", "A", t, T, joints, np.zeros((length, 2), np.int8)))
    return out


def config(out: Path, **changes: object) -> TrainConfig:
    values = {"model": msgspec.to_builtins(TINY), "out": str(out), "steps": 12, "batch": 4, "window": 16, "warmup": 2,
              "lr": 5e-3, "log_every": 2, "save_every": 4, "eval_every": 6}  # fmt: skip
    return convert_config(TrainConfig, {**values, **changes})


def trainer(out: Path, **changes: object) -> Trainer:
    c = config(out, **changes)
    source = MotionSource(clips(), c)
    t = Trainer(c, source)
    set_priors(t.model, [source.batch(10**6 + i) for i in range(3)])
    t.ema = Ema(t.model, c.ema)
    return t


def test_what_images_show_starts_at_the_mean_body_below_a_level_camera(tmp_path: Path) -> None:
    heads = trainer(tmp_path).model.heads
    forward, left, up = heads.body.mean.detach().unbind(-1)
    torch.testing.assert_close(heads.shown.mean.detach(), torch.stack([-left, -up, forward], dim=-1))
    assert heads.body.mean.abs().max() > 0.1


def test_it_learns_a_rigid_body(tmp_path: Path) -> None:
    t = trainer(tmp_path, steps=150, head_drop=0.0, floor_drop=0.0, augment={"mirror": 0.0, "limb": 0.0, "size": 0.0})
    start = t.train_step()["distance"]
    numbers = [t.train_step()["distance"] for _ in range(149)]
    assert np.mean(numbers[-10:]) < 0.05
    assert np.mean(numbers[-10:]) < 0.5 * start or start < 0.1


def test_resume_gives_the_same_bits(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "a")
    whole.run()
    trainer(tmp_path / "b").run(until=5)
    again = trainer(tmp_path / "b")
    assert again.resume()
    assert again.step == 5
    again.run()
    for (name, a), b in zip(whole.model.state_dict().items(), again.model.state_dict().values()):
        assert torch.equal(a, b), name
    for name, a in whole.ema.state.items():
        assert torch.equal(a, again.ema.state[name]), name


@pytest.mark.parametrize("step", [8, 12])
@pytest.mark.parametrize("killed_in", ["save", "export"])
def test_a_run_killed_between_its_two_files_ends_with_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, killed_in: str
) -> None:
    trainer(tmp_path / "a").run()
    real = getattr(Trainer, killed_in)

    def killed(self: Trainer, *words: object) -> None:
        if self.step == step:
            raise KeyboardInterrupt
        real(self, *words)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, killed_in, killed)
        disturbed = trainer(tmp_path / "b")
        with pytest.raises(KeyboardInterrupt):
            disturbed.run()
    again = trainer(tmp_path / "b")
    assert again.resume()
    again.run()
    whole, resumed = (load_weights(tmp_path / name / "last.safetensors") for name in ("a", "b"))
    assert resumed.notes["steps"] == whole.notes["steps"] == 12
    assert resumed.state.keys() == whole.state.keys()
    for name, tensor in whole.state.items():
        assert torch.equal(tensor, resumed.state[name]), name


def test_a_checkpoint_of_other_settings_or_a_broken_one_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path).run(until=1)
    with pytest.raises(EgoposeError, match="other settings"):
        trainer(tmp_path, lr=1e-4).resume()
    (tmp_path / CHECKPOINT).write_bytes(b"junk")
    with pytest.raises(EgoposeError, match="cannot be read"):
        trainer(tmp_path).resume()
    (tmp_path / CHECKPOINT).unlink()
    assert not trainer(tmp_path).resume()


def test_log_scores_and_best_weights(tmp_path: Path) -> None:
    t = trainer(tmp_path, tensorboard=True)
    seen = []

    def evaluate(model: torch.nn.Module) -> dict[str, float]:
        assert not model.training
        seen.append(1)
        return {"score": 3.0 - len(seen)}

    t.evaluate = evaluate
    pytest.importorskip("tensorboard")
    t.run()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [2, 4, 6, 8, 10, 12]
    assert [line["score"] for line in lines if line["kind"] == "held_out"] == [2.0, 1.0]
    assert list((tmp_path / "events").iterdir())
    from egopose.model.weights import load_weights

    notes = load_weights(tmp_path / "best.safetensors").notes
    assert notes["steps"] == 12
    assert notes["scores"] == {"score": 1.0}


def test_bfloat16_runs(tmp_path: Path) -> None:
    t = trainer(tmp_path, amp="bf16")
    assert np.isfinite(t.train_step()["loss"])


def test_parts_can_be_frozen(tmp_path: Path) -> None:
    t = trainer(tmp_path, train_only=["heads."])
    before = {k: v.clone() for k, v in t.model.state_dict().items()}
    t.train_step()
    changed = {k for k, v in t.model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(name.startswith("heads.") for name in changed)
    with pytest.raises(EgoposeError, match="is no part of the network"):
        trainer(tmp_path, train_only=["nothing"])


def test_learning_rate_shape() -> None:
    c = convert_config(TrainConfig, {"steps": 100, "warmup": 10})
    rates = [learning_rate(i, c) for i in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:]))


def test_batches_depend_on_seed_and_step_alone(tmp_path: Path) -> None:
    c = config(tmp_path)
    a, b = MotionSource(clips(), c), MotionSource(clips(), c)
    a.batch(3)
    torch.testing.assert_close(a.batch(50).frames.head, b.batch(50).frames.head, rtol=0, atol=0)
    other = MotionSource(clips(), c, rank=1)
    assert not torch.equal(b.batch(50).frames.head, other.batch(50).frames.head)


def _loss(change=None, **weights: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    c = config(Path("unused"), head_drop=0.0)
    batch = MotionSource(clips(), c).batch(0)
    model = build(TINY, 0).eval()
    if change is not None:
        batch = replace(batch, targets=change(batch.targets))
    output, encoded = model(batch.frames, batch.rotation, batch.first, batch.rest)
    return total_loss(output, encoded, batch.targets, LossConfig(**weights), 10**6)


def test_nothing_is_asked_between_frames_of_different_people() -> None:
    def as_said(apart):
        return lambda targets: replace(targets, apart=torch.tensor(apart))

    _, plain = _loss()
    count = config(Path("unused")).batch
    _, none = _loss(as_said([False] * count))
    assert all(torch.equal(plain[name], none[name]) for name in plain)
    _, every = _loss(as_said([True] * count))
    between = {"velocity", "acceleration", "bone"}
    assert all((every[name] == 0) == (name in between) for name in plain if plain[name] > 0)
    assert all(torch.equal(plain[name], every[name]) for name in set(plain) - between)
    # one window of single frames takes its own share out of the mean, and no more
    _, one = _loss(as_said([True] + [False] * (count - 1)))
    assert all(0 < one[name] != plain[name] for name in between)


def test_joints_without_label_and_padding_do_not_count() -> None:
    _, terms = _loss()
    elbow = BODY17_HANDS.index("left_elbow")

    def wrong_but_masked(targets):
        xyz = targets.xyz.clone()
        xyz[:, :, elbow] = float("nan")
        return replace(targets, xyz=xyz)

    def wrong(targets):
        xyz = targets.xyz.clone()
        xyz[:, :, elbow] += 5.0
        return replace(targets, xyz=xyz)

    loss, masked = _loss(wrong_but_masked)
    assert torch.isfinite(loss)
    _, bad = _loss(wrong)
    assert masked["distance"] < bad["distance"]
    assert abs(masked["distance"] - terms["distance"]) < 0.2

    def all_gone(targets):
        return replace(targets, xyz=torch.full_like(targets.xyz, float("nan")))

    loss, terms = _loss(all_gone)
    assert torch.isfinite(loss)
    assert terms["distance"] == 0
    loss.backward()

    def padded(targets):
        step = targets.step.clone()
        step[:, 8:] = False
        xyz = targets.xyz.clone()
        xyz[:, 8:] = 1e3
        return replace(targets, xyz=xyz, step=step)

    _, terms = _loss(padded)
    assert terms["distance"] < 10


def test_parts_that_do_not_learn_keep_their_running_statistics(tmp_path: Path) -> None:
    from egopose.train.rendered import RenderedSource
    from tests.test_train_rendered import rendered

    def run(*parts: str) -> dict[str, torch.Tensor]:
        settings = config(tmp_path / "_".join(parts), steps=2, rendered_batch=2, rendered_window=4, train_only=parts)
        trainer = Trainer(settings, RenderedSource([rendered()], settings))
        before = {name: value.clone() for name, value in trainer.model.named_buffers()}
        trainer.run()
        return {n: v for n, v in trainer.model.named_buffers() if v.is_floating_point() and not v.equal(before[n])}

    assert {name.split(".")[0] for name in run("hand_encoder", "hand_head")} == {"hand_encoder"}
    assert {name.split(".")[0] for name in run("decoder")} == set()


def test_unsure_labels_weigh_less() -> None:
    elbow = BODY17_HANDS.index("left_elbow")

    def wrong(sigma: float):
        def change(targets):
            xyz = targets.xyz.clone()
            xyz[:, :, elbow] += 2.0
            label = torch.zeros(xyz.shape[:-1])
            label[:, :, elbow] = sigma
            return replace(targets, xyz=xyz, sigma=label)

        return change

    right, sure, unsure = (_loss(change)[1]["distance"] for change in (None, wrong(0.0), wrong(0.3)))
    assert sure - right > 0.05
    assert abs(unsure - right) < 0.25 * (sure - right)


def test_body_joints_in_view_weigh_more() -> None:
    elbow = BODY17_HANDS.index("left_elbow")

    def moved(joint: int, told: int):
        def change(targets):
            xyz, visible = targets.xyz.clone(), torch.full(targets.xyz.shape[:-1], -1, dtype=torch.int8)
            xyz[:, :, joint] += 5000.0
            visible[:, :, joint] = told
            return replace(targets, xyz=xyz, visible=visible)

        return change

    def distance(joint: int, told: int, **weights: float) -> float:
        return float(_loss(moved(joint, told), **weights)[1]["distance"].detach())

    # one joint is nearly all of the error: its weight counts three times above, and in the sum of weights below, in
    # which five face joints count 0.3 each
    assert distance(elbow, 1, seen=3.0) / distance(elbow, 1) == pytest.approx(3 * 55.5 / 57.5, rel=0.01)
    for told in (0, -1):
        assert distance(elbow, told, seen=3.0) == pytest.approx(distance(elbow, told))


def test_seldom_seen_joints_count_like_the_others() -> None:
    far, weight = torch.zeros(2, 50, 17), torch.zeros(2, 50, 17)
    knee, wrist = BODY17_HANDS.index("left_knee"), BODY17_HANDS.index("left_wrist")
    far[..., knee], far[..., wrist] = 0.4, 0.1
    weight[..., wrist] = 1
    weight[0, :6, knee] = 1
    said = float(_each_joint(far, weight))
    assert said == pytest.approx((0.4 * 6 / (6 + SELDOM) + 0.1 * 100 / (100 + SELDOM)) / 17, rel=1e-5)


def test_single_images_are_asked_for_what_they_show_and_for_how_sure_they_are() -> None:
    batch = MotionSource(clips(), config(Path("unused"), head_drop=0.0)).batch(0)
    knee, wrist = BODY17_HANDS.index("left_knee"), BODY17_HANDS.index("left_wrist")
    visible = torch.full(batch.targets.visible.shape, -1, dtype=torch.int8)
    visible[..., wrist], visible[..., knee] = 1, 0
    targets = replace(batch.targets, visible=visible)
    truth = batch.targets.xyz[..., :17, :]
    with torch.no_grad():
        output, encoded = build(TINY, 0).eval()(batch.frames, batch.rotation, batch.first, batch.rest)

    def asked(wrist_off: float, knee_off: float, b: float = 0.1) -> float:
        shown = truth.clone()
        shown[..., wrist, 0] += wrist_off
        shown[..., knee, 0] += knee_off
        said = output._replace(frame_body=shown, frame_scale=torch.full(shown.shape[:-1], math.log(b)))
        return float(total_loss(said, encoded, targets, LossConfig(frame_body=1.0), 10**6)[1]["frame_body"])

    n = int((targets.step & torch.isfinite(targets.xyz[..., wrist, 0])).sum())
    share = n / (n + SELDOM) / 17
    # exp(-r / b) / b^3 each, times b; joints of which it is not known whether they are seen do not count
    assert asked(0.2, 0.0) - asked(0.0, 0.0) == pytest.approx(0.2 * share, rel=1e-3)
    assert asked(0.0, 0.2) - asked(0.0, 0.0) == pytest.approx(HIDDEN * 0.2 * share, rel=1e-3)
    targets.visible[..., knee] = -1
    assert asked(0.0, 0.2) == asked(0.0, 0.0)
    # what has no label does not count either
    targets.visible[..., knee], visible[..., wrist] = 0, -1
    assert asked(0.0, 0.0) != 0
    unlabelled = targets.xyz.clone()
    unlabelled[..., knee, :] = float("nan")
    targets = replace(targets, xyz=unlabelled)
    assert asked(0.0, 0.0) == 0


def test_likelihood_is_minimal_at_the_true_scale() -> None:
    """The scale that minimises exp(-r / b) / b^3 over errors of that law is b itself."""
    rng = np.random.default_rng(0)
    r = torch.tensor(rng.gamma(3.0, 0.05, 200_000))
    grid = torch.linspace(0.02, 0.12, 101, dtype=torch.float64)
    values = [float((r / b + 3 * torch.log(b)).mean()) for b in grid]
    assert float(grid[int(np.argmin(values))]) == pytest.approx(0.05, abs=0.002)
    direction = rng.standard_normal((200_000, 3))
    error = direction / np.linalg.norm(direction, axis=1, keepdims=True) * r.numpy()[:, None]
    from egopose.model.errorbars import SIGMA_PER_SCALE

    assert error.std() == pytest.approx(SIGMA_PER_SCALE * 0.05, rel=0.02)


def test_calibration_makes_intervals_hold() -> None:
    from egopose.train.calibrate import coverage, sigma_factors

    rng = np.random.default_rng(0)
    truth = np.array([0.02, 0.1])
    error = rng.standard_normal((12000, 2, 3)) * truth[:, None]
    sigma = np.full((12000, 2), 0.05)
    seen = np.zeros((12000, 2), bool)
    factors = sigma_factors(error, sigma, seen)
    np.testing.assert_allclose(factors[0], np.tile(truth[:, None] / 0.05, (1, 3)), rtol=0.05)
    np.testing.assert_array_equal(factors[1], 1)
    for share in (0.5, 0.9):
        assert coverage(error, sigma[..., None] * factors[0], share) == pytest.approx(share, abs=0.02)
        assert abs(coverage(error, sigma[..., None], share) - share) > 0.02


_WORKER = """
import sys, torch
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.test_train_loop import clips, config
from egopose.train.loop import Trainer
from egopose.train.motion import MotionSource
from egopose.train.stages import process_group
torch.set_num_threads(1)
with process_group("cpu") as rank:
    c = config(Path({out!r}), steps=3, batch=2)
    t = Trainer(c, MotionSource(clips(), c, rank=rank))
    t.run()
    state = torch.cat([p.detach().flatten() for p in t.model.parameters()])
    both = [torch.zeros_like(state) for _ in range(2)]
    torch.distributed.all_gather(both, state)
    assert torch.equal(both[0], both[1]), "the processes drifted apart"
    if rank == 0:
        print("SAME", float(state.abs().sum()))
"""


def test_two_processes_stay_equal_and_one_writes(tmp_path: Path) -> None:
    root = str(Path(__file__).resolve().parent.parent)
    script = tmp_path / "worker.py"
    script.write_text(_WORKER.format(root=root, out=str(tmp_path / "run")))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0",
         "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", str(script)],
        capture_output=True, text=True, check=False, timeout=1200, cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root},
    )  # fmt: skip
    assert "SAME" in done.stdout, done.stderr[-2000:]
    assert (tmp_path / "run" / CHECKPOINT).exists()


def test_settings_are_checked() -> None:
    with pytest.raises(EgoposeError, match="steps"):
        TrainConfig(steps=0)
    with pytest.raises(EgoposeError, match="head_drop"):
        TrainConfig(head_drop=1.5)
    with pytest.raises(EgoposeError, match="speeed"):
        convert_config(TrainConfig, {"augment": {"speeed": 1}})
    assert AugmentConfig().mirror == 0.5
