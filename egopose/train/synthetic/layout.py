"""The version of rendered files, and what older ones are told."""

from __future__ import annotations

from typing import Any

from egopose.errors import EgoposeError

FORMAT = "egopose.rendered/2"
"""Version 2: hands are labelled where annotators click."""


def check_format(found: Any, where: Any) -> None:
    """Refuse files whose hands are labelled by older rules.

    Args:
        found: What the file says of its format, None when nothing.
        where: The file, for the message.

    Raises:
        EgoposeError: It is another version.
    """
    if found != FORMAT:
        said = "no format" if found is None else f"format {str(found)!r}"
        raise EgoposeError(
            f"{where}: {said}; expected {FORMAT!r} (hands are labelled where annotators click since version 2); "
            "render it again into an empty folder with egopose synth"
        )
