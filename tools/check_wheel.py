"""Build the sdist and the wheel, install the wheel in a fresh environment and run the suite against it.

Usage: python tools/check_wheel.py [--keep FOLDER] [pytest options]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> None:
    print("+", *command, flush=True)
    subprocess.run([str(c) for c in command], cwd=cwd, check=True, env=env)


def check_contents(wheel: Path) -> None:
    """Only egopose/ at the top, every file once, kernels and configs inside."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"egopose"}, f"the wheel installs {sorted(tops)}; expected egopose alone"
    assert len(names) == len(set(names)), "a file stands twice in the wheel"
    for needed in ("egopose/kernels/projection.py", "egopose/configs/__init__.py", "egopose/py.typed"):
        assert needed in names, f"{needed} is missing from the wheel"
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1e6:.1f} MB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="work here and leave everything")
    options, pytest_options = parser.parse_known_args()
    work = options.keep or Path(tempfile.mkdtemp(prefix="egopose-wheel-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        # the sdist first and the wheel from it, so that a file missing from the sdist is noticed
        run(sys.executable, "-m", "build", "--outdir", work / "dist", ROOT, cwd=ROOT)
        [sdist] = (work / "dist").glob("*.tar.gz")
        [wheel] = (work / "dist").glob("*.whl")
        with tarfile.open(sdist) as archive:
            files = archive.getnames()
        assert any(name.endswith("kernels/projection.py") for name in files), "the sdist lacks the kernels"
        check_contents(wheel)
        venv.create(work / "env", with_pip=True, clear=True)
        python = work / "env" / "bin" / "python"
        pip = (python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt")
        run(python, "-m", "pip", "install", "-q", "--upgrade", "pip", cwd=work)
        run(*pip, f"{wheel}[dev]", cwd=work)
        if subprocess.run([str(python), "-c", "import cv2"], capture_output=True).returncode:
            run(python, "-m", "pip", "uninstall", "-q", "-y", "opencv-python", cwd=work)
            run(*pip, "--force-reinstall", "--no-deps", "opencv-python-headless", cwd=work)
        # the tests alone, away from the sources: whatever they import is the installed wheel
        shutil.rmtree(work / "suite", ignore_errors=True)
        shutil.copytree(ROOT / "tests", work / "suite" / "tests")
        # the pages are tested as well: their examples run and their option names exist
        shutil.copytree(ROOT / "docs", work / "suite" / "docs")
        for extra in ("pyproject.toml", "constraints.txt", "README.md", "Makefile"):
            shutil.copy(ROOT / extra, work / "suite")
        shared = os.environ.get("EGOPOSE_SHARED_DATA", str(ROOT.parent / "shared" / "data"))
        env = {**os.environ, "EGOPOSE_SHARED_DATA": shared, "EGOPOSE_TESTING_WHEEL": "1"}
        place = "import egopose, pathlib; print(pathlib.Path(egopose.__file__).parent)"
        found = subprocess.run(
            [str(python), "-c", place], cwd=work / "suite", capture_output=True, text=True, check=True
        )
        assert str(work / "env") in found.stdout, f"the tests would import {found.stdout.strip()}"
        run(python, "-m", "mypy", "-p", "egopose", cwd=work / "suite")
        run(python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *pytest_options, cwd=work / "suite", env=env)
        print("the wheel passes")
        return 0
    finally:
        if options.keep is None:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
