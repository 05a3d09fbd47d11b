"""The numbers of a camera, checked: sizes, parameters of a lens model, OpenCV's matrices and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from egopose.errors import EgoposeError
from egopose.rigid import Array, check_rotation, make_transform, rotation_from_vector

#: Model names, their kernel codes and the number of coefficients after fx fy cx cy.
MODELS: dict[str, tuple[int, int]] = {
    "pinhole": (0, 0),
    "brown_conrady": (1, 14),
    "kannala_brandt": (2, 4),
    "fisheye624": (3, 12),
}
#: Coefficient counts that OpenCV's perspective model knows.
OPENCV_COUNTS = (4, 5, 8, 12, 14)


def vector(values: ArrayLike, where: str) -> Array:
    """Numbers as a flat float64 array, or an error that says where."""
    try:
        return np.array(values, dtype=np.float64).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise EgoposeError(f"{where}: expected numbers, found {values!r:.80}") from error


def image_size(size: Any, where: str) -> tuple[int, int]:
    """(width, height) as two positive whole numbers."""
    try:
        w, h = (int(s) for s in size)
        whole = all(float(s) == int(s) for s in size)
    except (TypeError, ValueError, OverflowError) as error:
        raise EgoposeError(f"{where}: size is {size!r}; expected (width, height) in pixels") from error
    if not whole or not 0 < w <= LONGEST_SIDE or not 0 < h <= LONGEST_SIDE:
        raise EgoposeError(f"{where}: size is {size!r}; expected two positive whole numbers (width, height) in pixels")
    return w, h


LONGEST_SIDE = 1_000_000
"""Of an image, pixels."""
LARGEST = 1e12
"""Beyond this a parameter is damage, and its powers overflow."""


def check_parameters(model: str, params: ArrayLike, where: str) -> Array:
    """fx fy cx cy and the coefficients of a model, zero padded to the model's full length.

    Raises:
        EgoposeError: Unknown model, wrong count, NaN or infinity, focal length not positive.
    """
    if not isinstance(model, str) or model not in MODELS:
        raise EgoposeError(f"{where}: model is {model!r}; expected one of {', '.join(MODELS)}")
    values = vector(params, f"{where}: params")
    full = 4 + MODELS[model][1]
    counts = (4, *(4 + n for n in OPENCV_COUNTS)) if model == "brown_conrady" else (full,)
    if values.size not in counts:
        raise EgoposeError(
            f"{where}: {values.size} parameters for model {model}; expected fx fy cx cy and "
            f"{' or '.join(str(n - 4) for n in counts)} coefficients"
        )
    if not np.isfinite(values).all():
        raise EgoposeError(
            f"{where}: the calibration holds NaN or infinity (parameter {int(np.argmin(np.isfinite(values)))} of "
            f"{values.tolist()}); calibrate this camera again or leave it out"
        )
    if (np.abs(values) > LARGEST).any():
        raise EgoposeError(
            f"{where}: parameter {int(np.argmax(np.abs(values)))} is {values[np.argmax(np.abs(values))]:.3g}; no lens "
            "has such a number, calibrate this camera again or leave it out"
        )
    if not (values[:2] > 0).all():
        raise EgoposeError(f"{where}: focal lengths are {values[0]:g}, {values[1]:g}; expected positive pixels")
    return np.concatenate([values, np.zeros(full - values.size)])


def intrinsic_matrix(K: ArrayLike, where: str) -> Array:
    """A (3, 3) intrinsic matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]].

    Raises:
        EgoposeError: Wrong shape, NaN or infinity, skew, or entries where none belong.
    """
    flat = vector(K, f"{where}: K")
    if flat.size != 9:
        raise EgoposeError(f"{where}: K holds {flat.size} numbers; expected a (3, 3) matrix")
    K = flat.reshape(3, 3)
    if not np.isfinite(K).all():
        raise EgoposeError(f"{where}: K holds NaN or infinity; calibrate this camera again or leave it out")
    if not np.allclose([K[1, 0], K[2, 0], K[2, 1], K[2, 2]], [0, 0, 0, 1], rtol=0, atol=1e-9):
        raise EgoposeError(f"{where}: K is {K.tolist()}; expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
    if abs(K[0, 1]) > 1e-9 * abs(K[0, 0]):
        raise EgoposeError(f"{where}: K has a skew of {K[0, 1]:g} px; no model here has one, calibrate without skew")
    return K


def opencv_parts(
    K: ArrayLike, dist: ArrayLike | None, R: ArrayLike, t: ArrayLike, fisheye: bool, where: str
) -> tuple[str, Array, Array]:
    """OpenCV's calibration as (model, params, T_camera_world (4, 4)); arguments as in ``Camera.from_opencv``.

    Raises:
        EgoposeError: Anything that does not fit.
    """
    matrix = intrinsic_matrix(K, where)
    coefficients = np.zeros(0) if dist is None else vector(dist, f"{where}: dist")
    if fisheye:
        if coefficients.size not in (0, 4):
            raise EgoposeError(f"{where}: {coefficients.size} fisheye coefficients; expected k1 k2 k3 k4")
        model, coefficients = "kannala_brandt", coefficients if coefficients.size else np.zeros(4)
    elif coefficients.size not in (0, *OPENCV_COUNTS):
        raise EgoposeError(f"{where}: {coefficients.size} coefficients; expected 4, 5, 8, 12 or 14 (OpenCV's order)")
    elif coefficients.any():
        model = "brown_conrady"
    else:
        model, coefficients = "pinhole", np.zeros(0)
    try:
        rotation = np.asarray(R, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EgoposeError(f"{where}: R is not made of numbers; expected (3, 3) or a Rodrigues vector") from error
    translation = vector(t, f"{where}: t")
    if rotation.size == 3:
        if not np.isfinite(rotation).all():
            raise EgoposeError(f"{where}: the rotation vector holds NaN or infinity")
        rotation = rotation_from_vector(rotation.ravel())
    if rotation.shape != (3, 3) or translation.size != 3:
        raise EgoposeError(
            f"{where}: R has shape {rotation.shape} and t {translation.size} numbers; expected (3, 3) or a Rodrigues "
            "vector, and 3"
        )
    if not np.isfinite(translation).all():
        raise EgoposeError(
            f"{where}: the translation holds NaN or infinity; calibrate this camera again or leave it out"
        )
    T_camera_world = make_transform(check_rotation(rotation, where), translation)
    params = np.concatenate([matrix[[0, 1, 0, 1], [0, 1, 2, 2]], coefficients])
    return model, params, T_camera_world
