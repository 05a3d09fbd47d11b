"""Top-down pose models that the user brings as ONNX files (RTMPose, RTMW, ViTPose and the like)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from egopose.detect.base import Detection2D
from egopose.detect.decoders import decode_heatmaps, decode_simcc
from egopose.errors import EgoposeError, import_cv2, require
from egopose.files import sha256_file
from egopose.skeleton import BODY17, COCO_WHOLEBODY133, HALPE26, HAND21, Skeleton

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]

_BY_COUNT = {s.n_joints: s for s in (BODY17, HALPE26, COCO_WHOLEBODY133, HAND21)}
# the mean and standard deviation of ImageNet in 8-bit units, which these models expect
_MEAN, _STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
_PADDING = 1.25


class OnnxTopDown:
    """A top-down model behind the detector protocol.

    Args:
        model: Path of the ONNX file: one image input (N, 3, H, W); outputs two SimCC arrays (x, y) or one of heatmaps.
        skeleton: The model's joints; by default told by their number (17 COCO, 26 Halpe, 133 COCO-WholeBody, 21 hand).
        boxes: How persons are found when none is followed: "blazepose" (its detector, see ``egopose weights``) or
            "image" (the whole image is one person's box).
        threads: Threads of the runtime.

    Raises:
        MissingExtra: onnxruntime is not installed (extra ``[onnx]``).
        EgoposeError: The file is not such a model.
    """

    name = "onnx"

    def __init__(
        self,
        model: str | Path,
        skeleton: Skeleton | None = None,
        boxes: Literal["blazepose", "image"] = "blazepose",
        threads: int = 1,
    ) -> None:
        runtime = require("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.version = sha256_file(model)[:16]
        try:
            self._session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise EgoposeError(
                f"{model}: not a model that onnxruntime can run ({str(error).splitlines()[0]})"
            ) from error
        self._input = self._session.get_inputs()[0]
        shape = self._input.shape
        if len(shape) != 4 or not all(isinstance(n, int) for n in shape[2:]):
            raise EgoposeError(f"{model}: input {self._input.name!r} has shape {shape}; expected (N, 3, height, width)")
        self.height, self.width = int(shape[2]), int(shape[3])
        self._simcc = len(self._session.get_outputs()) == 2
        count = self._probe(model)
        if skeleton is None and count not in _BY_COUNT:
            raise EgoposeError(f"{model}: {count} joints; say which they are with skeleton=")
        self.skeleton = _BY_COUNT[count] if skeleton is None else skeleton
        if self.skeleton.n_joints != count:
            raise EgoposeError(f"{model}: {count} joints, but {self.skeleton.name!r} has {self.skeleton.n_joints}")
        self._finder = None
        if boxes == "blazepose":
            from egopose.detect.blazepose import BlazePose

            self._finder = BlazePose(hands=False, threads=threads)

    def _probe(self, model: str | Path) -> int:
        outputs = self._run(np.zeros((3, self.height, self.width), np.float32))
        wanted = 3 if self._simcc else 4
        if any(o.ndim != wanted for o in outputs[:2]):
            shapes = [o.shape for o in outputs]
            raise EgoposeError(f"{model}: outputs have shapes {shapes}; expected two (N, J, bins) or one (N, J, H, W)")
        return int(outputs[0].shape[1])

    def _run(self, image: NDArray[np.float32]) -> list[Any]:
        return self._session.run(None, {self._input.name: image[None]})

    def open(self, people: int = 1) -> OnnxTracker:
        """A tracker for one view."""
        return OnnxTracker(self, people)

    def find_people(self, image: NDArray[np.uint8]) -> list[Box]:
        """Boxes (u0, v0, u1, v1) of persons."""
        h, w = image.shape[:2]
        if self._finder is None:
            return [(0.0, 0.0, float(w), float(h))]
        boxes = []
        for _, square in self._finder.find_people(image):
            _, uv, _, _ = self._finder.body(image, square)
            boxes.append((*uv.min(0).tolist(), *uv.max(0).tolist()))
        return boxes  # type: ignore[return-value]

    def read(self, image: NDArray[np.uint8], box: Box) -> tuple[Array, Array]:
        """Joints (J, 2) in image pixels and scores (J,) of the person in a box."""
        cv2 = import_cv2()
        u0, v0, u1, v1 = box
        centre = np.array([(u0 + u1) / 2, (v0 + v1) / 2])
        width = max(u1 - u0, (v1 - v0) * self.width / self.height, 2.0) * _PADDING
        scale = width / self.width
        origin = centre - scale * np.array([self.width, self.height]) / 2
        matrix = np.array([[1 / scale, 0, -origin[0] / scale], [0, 1 / scale, -origin[1] / scale]])
        crop = cv2.warpAffine(image, matrix, (self.width, self.height), flags=cv2.INTER_LINEAR)
        outputs = self._run(((crop - _MEAN) / _STD).transpose(2, 0, 1).astype(np.float32))
        if self._simcc:
            x, y = outputs[0][0], outputs[1][0]
            uv, score = decode_simcc(x, y, x.shape[-1] / self.width)
        else:
            uv, score = decode_heatmaps(outputs[0][0], stride=self.width / outputs[0].shape[-1])
        return uv * scale + origin, np.clip(score, 0.0, 1.0)


class OnnxTracker:
    """Follows persons by the box around their last joints."""

    def __init__(self, model: OnnxTopDown, people: int) -> None:
        self._model = model
        self._boxes: list[Box | None] = [None] * people
        self._since_search = 0

    def update(self, image: NDArray[np.uint8]) -> list[Detection2D]:
        """People in the next frame; see :class:`egopose.detect.base.Tracker`."""
        self._since_search += 1
        nobody = all(box is None for box in self._boxes)
        # someone is always looked for; a second person only now and then
        if nobody or (None in self._boxes and self._since_search >= 10):
            self._since_search = 0
            for found in self._model.find_people(image):
                known = [box for box in self._boxes if box is not None]
                if None in self._boxes and not any(_overlap(found, box) > 0.4 for box in known):
                    self._boxes[self._boxes.index(None)] = found
        result = []
        n = self._model.skeleton.n_joints
        for i, box in enumerate(list(self._boxes)):
            uv, score = np.full((n, 2), np.nan), np.zeros(n)
            sure = 0.0
            if box is not None:
                uv, score = self._model.read(image, box)
                good = score > 0.3
                sure = float(score[good].mean()) if good.sum() >= 3 else 0.0
                self._boxes[i] = (*uv[good].min(0).tolist(), *uv[good].max(0).tolist()) if sure else None  # type: ignore[assignment]
            h, w = image.shape[:2]
            outside = ~((uv >= -0.5) & (uv <= [w - 0.5, h - 0.5])).all(-1)
            uv[outside], score[outside] = np.nan, 0.0
            result.append(Detection2D(uv.astype(np.float32), score.astype(np.float32), sure))
        self._drop_twins(result)
        return result

    def _drop_twins(self, result: list[Detection2D]) -> None:
        """Two boxes that ended on one person: the surer one stays."""
        for i in range(len(result)):
            for k in range(i):
                a, b = self._boxes[i], self._boxes[k]
                if a is not None and b is not None and _overlap(a, b) > 0.8:
                    gone = i if result[i].person_score <= result[k].person_score else k
                    n = self._model.skeleton.n_joints
                    result[gone] = Detection2D(np.full((n, 2), np.nan, np.float32), np.zeros(n, np.float32), 0.0)
                    self._boxes[gone] = None


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    inner = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner
    return inner / union if union > 0 else 0.0
