"""Fixtures of the whole suite."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

with contextlib.suppress(ImportError):
    from hypothesis import HealthCheck, settings

    # how long an example takes is the machine's affair, and says nothing about what it shows
    settings.register_profile("patient", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real captures; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("EGOPOSE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real captures are not here ({folder}); set EGOPOSE_SHARED_DATA to their folder")
    return folder
