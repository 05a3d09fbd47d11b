"""The exception family and optional imports."""

from __future__ import annotations

import pytest

from egopose.errors import EgoposeError, MissingExtra, require


def test_missing_module_names_the_extra() -> None:
    with pytest.raises(MissingExtra, match=r"no_such_module_x.*pip install 'egopose\[mocap\]'"):
        require("no_such_module_x", "mocap")


def test_missing_extra_is_both_kinds_of_error() -> None:
    with pytest.raises(ImportError):
        require("no_such_module_x", "mocap")
    assert issubclass(MissingExtra, EgoposeError)
    assert issubclass(EgoposeError, ValueError)


def test_present_module_is_returned() -> None:
    assert require("json", "none").loads("1") == 1
