"""The official Ego-Exo4D hand protocol: camera frame, valid joints only, every hand weighs the same.

MPJPE and PA-MPJPE in millimetres; the alignment has rotation, translation and scale, never a reflection, and is fitted
on the valid joints only. With ``offset`` the ground truth's wrist is added to the prediction first, for submissions
whose joints are relative to the wrist; the wrist then counts with an error near zero, as in the official numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.metrics.protocols.body import Mode, check_mode, distance
from egopose.metrics.protocols.result import HandCoverage, HandResult, HandScore
from egopose.skeleton import HAND21
from egopose.takes import N_HAND, SIDES, Floats, HandTake, locate

MM = 1000.0
_WRIST = HAND21.index("wrist")


@dataclass
class _Hands:
    """Hands of all takes, one row each, in official order: take, frame, right before left."""

    uids: list[str]
    take: NDArray[np.int64]
    frame: NDArray[np.int64]
    side: NDArray[np.int64]
    truth: Floats
    pred: Floats
    valid: NDArray[np.bool_]

    def name(self, row: int) -> str:
        return f"take {self.uids[int(self.take[row])]}, frame {self.frame[row]}, {SIDES[int(self.side[row])]} hand"

    def keep(self, rows: NDArray[np.bool_]) -> _Hands:
        return _Hands(
            self.uids, self.take[rows], self.frame[rows], self.side[rows],
            self.truth[rows], self.pred[rows], self.valid[rows],
        )  # fmt: skip


def _pair(truth: Mapping[str, HandTake], pred: Mapping[str, HandTake], mode: Mode, cover: HandCoverage) -> _Hands:
    """Collect the hands with ground truth and their predictions."""
    strict = mode == "strict"
    uids = list(truth)
    parts: list[tuple[NDArray[np.int64], ...]] = []
    truths, preds, valids = [], [], []
    for number, (uid, target) in enumerate(truth.items()):
        cover.takes_expected += 1
        if target.other_keys and strict:
            raise EgoposeError(f"ground truth, take {uid}: key {target.other_keys[0]!r} is no frame number")
        if target.defects and strict:
            (frame, side), what = next(iter(target.defects.items()))
            raise EgoposeError(f"ground truth, take {uid}, frame {frame}, {side} hand: {what}")
        wanted = target.present
        n_wanted = int(wanted.sum())
        cover.hands_expected += n_wanted
        cover.joints_expected += int(target.valid[wanted].sum())
        guess = pred.get(uid)
        if guess is None:
            if strict and n_wanted:
                raise EgoposeError(
                    f"prediction: take {uid} is missing; every take of the ground truth must be there (lenient mode "
                    "scores the rest; some releases of takes.json lack two of the hand test takes)"
                )
            cover.missing_takes.append(uid)
            cover.missing_hands += n_wanted
            continue
        where = locate(guess.frames, target.frames)
        malformed = np.zeros_like(wanted)
        for i, frame in enumerate(target.frames if guess.defects else ()):
            for s, side in enumerate(SIDES):
                malformed[i, s] = (int(frame), side) in guess.defects
        there = np.zeros_like(wanted)
        there[where >= 0] = guess.present[where[where >= 0]]
        absent = ~there & ~malformed
        if strict:
            for mask, what in ((absent, "is missing"), (malformed, "")):
                if (mask & wanted).any():
                    i, s = np.argwhere(mask & wanted)[0]
                    frame, side = int(target.frames[i]), SIDES[s]
                    what = what if where[i] >= 0 or not what else "is missing (so is its frame)"
                    raise EgoposeError(
                        f"prediction: take {uid}, frame {frame}, {side} hand: "
                        f"{what or guess.defects[frame, side]}; expected 21x3 numbers (lenient mode scores the rest)"
                    )
        cover.missing_hands += int((absent & wanted).sum())
        cover.malformed_hands += int((malformed & wanted).sum())
        use = wanted & ~absent & ~malformed
        rows = np.argwhere(use)
        parts.append((np.full(len(rows), number), target.frames[rows[:, 0]], rows[:, 1]))
        truths.append(target.xyz[use])
        valids.append(target.valid[use])
        preds.append(guess.xyz[where[rows[:, 0]], rows[:, 1]])
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        none = np.zeros((0, N_HAND, 3))
        return _Hands(uids, empty, empty, empty, none, none, np.zeros((0, N_HAND), dtype=np.bool_))
    takes, frames, sides = (np.concatenate(column) for column in zip(*parts))
    return _Hands(uids, takes, frames, sides, np.concatenate(truths), np.concatenate(preds), np.concatenate(valids))


def similarity_error(pred: Floats, target: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Mean distance over valid joints after the best proper similarity fitted on them.

    Umeyama, 1991, eqs. 34-42: rotation from the singular vectors of the cross-covariance, the last one turned round
    where the determinant is negative; scale is the trace times the norm of the target over that of the prediction.

    Args:
        pred: (H, J, 3), finite at valid joints, with spread.
        target: (H, J, 3), likewise.
        valid: (H, J), at least one true in each row.
    """
    count = valid.sum(1)[:, None, None]
    mask = valid[..., None]
    a = np.where(mask, target, 0.0)
    b = np.where(mask, pred, 0.0)
    centre = a.sum(1, keepdims=True) / count
    a = np.where(mask, a - centre, 0.0)
    b = np.where(mask, b - b.sum(1, keepdims=True) / count, 0.0)
    norm_a = np.sqrt((a * a).sum((1, 2)))[:, None, None]
    norm_b = np.sqrt((b * b).sum((1, 2)))[:, None, None]
    u, s, vt = np.linalg.svd(np.swapaxes(a / norm_a, 1, 2) @ (b / norm_b))
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    s[:, -1] *= sign
    vt[:, -1] *= sign[:, None]
    turned = (b / norm_b) @ np.swapaxes(u @ vt, 1, 2)
    fitted = norm_a * s.sum(1)[:, None, None] * turned
    return masked_mean(distance(fitted - a), valid)


def masked_mean(values: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Mean of each row over its valid entries, (H,)."""
    return np.asarray(np.where(valid, values, 0.0).sum(1) / valid.sum(1))


def _spread(points: Floats, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the valid points of a row are not all one point."""
    first = np.take_along_axis(points, valid.argmax(1)[:, None, None], axis=1)
    return np.asarray(((points != first).any(-1) & valid).any(1))


def _refuse_unsolvable(hands: _Hands) -> None:
    """Strict: the hands whose singular values the official evaluator fails to find."""
    tests = (
        (hands.valid[..., None] & ~np.isfinite(hands.pred), "the prediction is NaN or infinite at a valid joint"),
        (hands.valid[..., None] & ~np.isfinite(hands.truth), "the ground truth is NaN or infinite at a valid joint"),
    )
    for bad, what in tests:
        if bad.any():
            row, joint, _ = np.argwhere(bad)[0]
            raise EgoposeError(
                f"{hands.name(row)}: {what} ({HAND21.joints[joint]}); the alignment cannot be solved "
                "(lenient mode leaves such joints out)"
            )
    for points, what in ((hands.pred, "the prediction"), (hands.truth, "the ground truth")):
        flat = ~_spread(points, hands.valid)
        if flat.any():
            raise EgoposeError(
                f"{hands.name(int(np.flatnonzero(flat)[0]))}: all valid joints of {what} are one point; the alignment "
                "cannot be solved (lenient mode scores it against the centre of the hand)"
            )


def _score_rows(hands: _Hands) -> tuple[Floats, Floats]:
    """MPJPE and PA-MPJPE of each hand in millimetres."""
    plain = masked_mean(distance(hands.truth - hands.pred), hands.valid)
    spread = _spread(hands.pred, hands.valid) & _spread(hands.truth, hands.valid)
    aligned = np.zeros(len(plain))
    aligned[spread] = similarity_error(hands.pred[spread], hands.truth[spread], hands.valid[spread])
    if not spread.all():
        # a hand without spread collapses on the centre of the target
        truth, valid = hands.truth[~spread], hands.valid[~spread]
        centre = np.where(valid[..., None], truth, 0.0).sum(1, keepdims=True) / valid.sum(1)[:, None, None]
        aligned[~spread] = masked_mean(distance(truth - centre), valid)
    return plain, aligned


def _mean_score(plain: Floats, aligned: Floats) -> HandScore:
    if not plain.size:
        return HandScore(float("nan"), float("nan"), 0)
    return HandScore(float(np.mean(plain)), float(np.mean(aligned)), int(plain.size))


def evaluate_hand_official(
    pred: Mapping[str, HandTake], truth: Mapping[str, HandTake], *, offset: bool = False, mode: Mode = "strict"
) -> HandResult:
    """Score hand predictions by the official rules.

    Args:
        pred: Takes by uid, metres, camera frame (un-rotated sensor), or relative to the wrist with ``offset``.
        truth: Ground truth takes by uid, in file order, with the validity of each joint.
        offset: Add the ground truth's wrist to the prediction.
        mode: "strict" refuses what the official evaluator refuses (a missing take, frame or hand, a wrong shape, a
            hand that cannot be aligned); "lenient" scores what is there and counts the rest.

    Returns:
        Millimetres overall, by side and by take; coverage; notes.

    Raises:
        EgoposeError: Strict mode, as above; it names the take, the frame and the hand.
    """
    check_mode(mode)
    cover = HandCoverage()
    hands = _pair(truth, pred, mode, cover)
    cover.extra_takes = sum(uid not in truth for uid in pred)
    empty = ~hands.valid.any(1)
    if mode == "strict" and empty.any():
        raise EgoposeError(
            f"{hands.name(int(np.flatnonzero(empty)[0]))}: the ground truth has joints but none is valid; nothing can "
            "be scored (lenient mode leaves the hand out)"
        )
    cover.unscorable_hands = int(empty.sum())
    notes: list[str] = []
    if offset:
        hands.pred = hands.pred + hands.truth[:, _WRIST : _WRIST + 1]
        notes.append("the wrist of the ground truth was added to every prediction (--offset): MPJPE is wrist-aligned")
    hands.truth, hands.pred = hands.truth * MM, hands.pred * MM
    if mode == "strict":
        _refuse_unsolvable(hands)
    else:
        bad_truth = hands.valid & ~np.isfinite(hands.truth).all(-1)
        bad_pred = hands.valid & ~bad_truth & ~np.isfinite(hands.pred).all(-1)
        cover.nonfinite_truth, cover.nonfinite_predictions = int(bad_truth.sum()), int(bad_pred.sum())
        hands.valid = hands.valid & ~bad_truth & ~bad_pred
        hands = hands.keep(np.asarray(hands.valid.any(1)))
        cover.flat_predictions = int((~_spread(hands.pred, hands.valid)).sum())
    cover.hands_scored, cover.joints_scored = len(hands.take), int(hands.valid.sum())
    # unused joints may hold anything; they must not warn or reach a sum
    unused = ~hands.valid[..., None]
    hands.truth, hands.pred = np.where(unused, 0.0, hands.truth), np.where(unused, 0.0, hands.pred)
    plain, aligned = _score_rows(hands)
    sides = {
        side: _mean_score(plain[hands.side == s], aligned[hands.side == s]) for s, side in enumerate(SIDES)
    }  # fmt: skip
    takes: dict[str, HandScore] = {}
    ends = np.searchsorted(hands.take, np.arange(len(hands.uids) + 1))
    for number, uid in enumerate(hands.uids):
        a, b = ends[number], ends[number + 1]
        if b > a:
            takes[uid] = _mean_score(plain[a:b], aligned[a:b])
    if not offset and len(plain) and np.median(np.abs(hands.pred[:, _WRIST, 2])) < 1e-3 * MM:
        notes.append("the predicted wrists lie at depth 0: joints relative to the wrist are scored with --offset")
    protocol = "hand.official+offset" if offset else "hand.official"
    return HandResult(protocol, mode, _mean_score(plain, aligned), sides, takes, cover, notes)
