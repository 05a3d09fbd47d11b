"""Which device a network runs on."""

from __future__ import annotations

import torch

from egopose.errors import EgoposeError


def pick_device(name: str) -> torch.device:
    """The device asked for: "cpu", "cuda", "cuda:N" or "auto".

    Raises:
        EgoposeError: The name is not known, or a GPU was asked for and there is none.
    """
    if not isinstance(name, str):
        raise EgoposeError(f"device is {name!r}; expected 'cpu', 'cuda', 'cuda:N' or 'auto'")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise EgoposeError(f"device {name!r} is not known; expected 'cpu', 'cuda', 'cuda:N' or 'auto'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EgoposeError(f"device {name!r} was asked for, but torch finds no CUDA GPU here; use device 'cpu'")
    return device
