"""The one exception family: every refusal says what was found, where, what was expected and what to do."""

from __future__ import annotations

import importlib
from types import ModuleType

LONGEST_MESSAGE = 2000


class EgoposeError(ValueError):
    """Input was refused, or a job could not be done.

    The message is one line that names the file, the key or the frame, what was found, what was expected and
    what to do. Commands print it and exit with status 1; they never show a traceback for it. What a damaged file put
    into it does not flood the terminal: a long message keeps its two ends.
    """

    def __init__(self, message: object = "", *more: object) -> None:
        text = message
        if isinstance(message, str) and len(message) > LONGEST_MESSAGE:
            text = f"{message[: LONGEST_MESSAGE - 500]} ... {message[-480:]}"
        super().__init__(text, *more)


class EgoposeWarning(UserWarning):
    """Input was read, but something in it deserves a look; the message says what and what to do."""


class MissingExtra(EgoposeError, ImportError):
    """A feature needs an optional package that is not installed; the message names the extra."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module or say how to install it.

    Args:
        module: Dotted name of the module, such as ``"ezc3d"``.
        extra: The extra of this package that brings it, such as ``"mocap"``.

    Returns:
        The imported module.

    Raises:
        MissingExtra: The module is not installed, or its own imports fail.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        reason = "" if isinstance(error, ModuleNotFoundError) and error.name == module else f" ({error})"
        raise MissingExtra(
            f"this needs the package {module!r}, which could not be imported{reason}; "
            f"install it with: pip install 'egopose[{extra}]'"
        ) from error


def import_cv2() -> ModuleType:
    """Import OpenCV, with a clear word when the GUI wheel misses libGL.

    Raises:
        EgoposeError: ``cv2`` is absent or its shared libraries are.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        if "libGL" in str(error) or "libgthread" in str(error) or "libglib" in str(error):
            raise EgoposeError(
                f"OpenCV cannot start here: {error}; on a machine without a display use the headless wheel: "
                "pip uninstall -y opencv-python && pip install opencv-python-headless"
            ) from error
        raise EgoposeError(
            f"OpenCV could not be imported ({error}); install it with: pip install opencv-python-headless"
        ) from error
