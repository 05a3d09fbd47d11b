"""Install the wheel without extras on every Python found here, with the oldest and the newest dependencies, and use it.

Usage: python tools/install_matrix.py [--python 3.12 ...] [--only oldest] [--work FOLDER] [--gpu-wheels] [--tables-only]

In each fresh environment: import, every verb's help, a small run of convert, triangulate, evaluate, view, synth and
predict, and every feature of an extra, which must name the extra and exit with status 1. Results go to
benchmarks/results/install.json and into the table of docs/install.md.

Where the index has no CPU wheel of torch for a Python, it has a build for graphics cards of several gigabytes. With
--gpu-wheels that is taken; else the version of constraints.txt is tried, and where that has no CPU wheel either, the
cell is run without torch, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "install.json"
PAGE = ROOT / "docs" / "install.md"
PYTHONS = ("3.11", "3.12", "3.13")
SHOWN = ("numpy", "scipy", "numba", "torch", "opencv", "av", "msgspec", "tyro", "PyYAML", "safetensors", "rich")
IMPORT_BUDGET_S = 0.1

MAKE = """
from pathlib import Path
from egopose.demo import exo_capture
from egopose.io import save
capture = exo_capture(seconds=1)
save(capture.rig, "rig.toml"); save(capture.observations, "kp.csv"); save(capture.truth, "truth.npz")
from egopose.train.synthetic.demo_clip import demo_clip
files = demo_clip(Path("ego"))
print(files.video, files.camera, files.trajectory, files.truth, sep="\\n")
"""
HELP = """
import contextlib, io, json, sys
from egopose.cli import main
failed = []
for verb in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            status = main([*verb, "--help"])
        except SystemExit as stop:
            status = stop.code
    if status or "usage" not in said.getvalue():
        failed.append(" ".join(verb))
print(json.dumps(failed))
"""
IMPORT = "import time, numpy; t = time.perf_counter(); import egopose; print(time.perf_counter() - t)"
ABSENT_EXTRAS = {
    "view": ("view joints.npz --png sheet.png", "view joints.npz --live"),
    "parquet": ("convert joints.npz joints.parquet",),
    "dask": ("convert joints.npz {name}.trc --each takes.csv --engine dask --scheduler tcp://127.0.0.1:1",),
    "rerun": ("view joints.npz --rerun joints.rrd",),
    "detect": ("triangulate rig.toml videos --out found.npz",),
}
"""Commands that need an extra; each must fail with its name."""


@dataclass
class Cell:
    """One environment of the matrix: what was installed, and what each check said ("ok" or what went wrong)."""

    python: str
    versions: str
    torch: str = ""
    installed: dict[str, str] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    import_ms: float | None = None
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether every check passed."""
        return bool(self.checks) and all(said == "ok" for said in self.checks.values())


def find_pythons() -> dict[str, str]:
    """Version to program, of the Pythons of the list that start here."""
    found = {}
    for version in PYTHONS:
        places = [
            shutil.which(f"python{version}"),
            *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python3")),
        ]
        for place in filter(None, places):
            code = "import sys; print('%d.%d' % sys.version_info[:2])"
            done = subprocess.run([str(place), "-c", code], capture_output=True, text=True)
            if done.returncode == 0 and done.stdout.strip() == version:
                found[version] = str(place)
                break
    return found


def run(command: list[str], cwd: Path, timeout: float = 3600) -> subprocess.CompletedProcess[str]:
    """Run without raising; nothing of the caller's Python leaks in."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "VIRTUAL_ENV"}
    env["NUMBA_CACHE_DIR"] = str(cwd / "numba")
    try:
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no end after {timeout:g} s")


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The line that says what went wrong."""
    lines = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()]
    return f"status {done.returncode}: {lines[-1] if lines else 'no word'}"


def torch_wheel(python: Path, constraint: list[str], cwd: Path) -> tuple[str, bool]:
    """What pip would take for torch: version, and whether it is a CPU build (it then needs no CUDA packages)."""
    report = cwd / "torch.json"
    done = run([str(python), "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--only-binary", ":all:",
                "--report", str(report), *constraint, "torch"], cwd)  # fmt: skip
    if done.returncode:
        return last_line(done), False
    names = {
        item["metadata"]["name"].lower(): item["metadata"]["version"]
        for item in json.loads(report.read_text())["install"]
    }
    return names["torch"], not any(name.startswith(("nvidia", "cuda", "triton")) for name in names)


def other_torch(constraint: list[str], version: str, cwd: Path) -> list[str]:
    """The same constraints, but for the version of torch."""
    if not constraint:
        return []
    lines = [line for line in Path(constraint[1]).read_text().splitlines() if not line.startswith("torch==")]
    path = cwd / "constraints.txt"
    path.write_text("\n".join([*lines, f"torch=={version.partition('+')[0]}"]) + "\n")
    return ["-c", str(path)]


def install(python: Path, wheel: Path, oldest: bool, gpu: bool, cell: Cell, cwd: Path) -> str:
    """Install the wheel; "ok" or what went wrong."""
    constraint = ["-c", str(ROOT / "constraints-min.txt")] if oldest else []
    pip = [str(python), "-m", "pip", "install", "-q", "--no-compile", "--only-binary", ":all:"]
    version, cpu = torch_wheel(python, constraint, cwd)
    if not (cpu or gpu):
        # the release that the suite runs with may have the CPU build that the oldest or the newest lacks
        version, cpu = torch_wheel(python, ["-c", str(ROOT / "constraints.txt")], cwd)
        constraint = other_torch(constraint, version, cwd)
    if cpu or gpu:
        cell.torch = version
        done = run([*pip, *constraint, f"torch=={version}", str(wheel)], cwd, 3600)
    else:
        cell.torch = f"none ({version} has no CPU wheel for {cell.python} here)"
        wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        rest = [text for text in wanted if not text.startswith("torch")]
        done = run([*pip, *constraint, *rest], cwd, 3600)
        if done.returncode == 0:
            done = run([*pip, "--no-deps", str(wheel)], cwd)
    if done.returncode:
        return last_line(done)
    if run([str(python), "-c", "import cv2"], cwd).returncode:
        # no libGL here: the same version without windows
        run([str(python), "-m", "pip", "uninstall", "-q", "-y", "opencv-python"], cwd)
        done = run([*pip, *constraint, "--no-deps", "opencv-python-headless"], cwd)
        if done.returncode:
            return last_line(done)
    listed = json.loads(run([str(python), "-m", "pip", "list", "--format", "json"], cwd).stdout)
    have = {item["name"].lower().replace("_", "-"): item["version"] for item in listed}
    have["opencv"] = have.get("opencv-python") or have.get("opencv-python-headless", "")
    cell.installed = {name: have[name.lower()] for name in SHOWN if name.lower() in have}
    return "ok"


def verbs(python: Path, cwd: Path) -> list[list[str]]:
    """All verbs of the command line, sub-verbs included."""
    code = (
        "import json; from egopose.cli import DEFAULT, VERBS\n"
        "def walk(table, prefix):\n"
        "    for name, (target, _) in table.items():\n"
        "        if name == DEFAULT: continue\n"
        "        if isinstance(target, dict): yield from walk(target, [*prefix, name])\n"
        "        yield [*prefix, name]\n"
        "print(json.dumps(list(walk(VERBS, []))))"
    )
    done = run([str(python), "-c", code], cwd)
    return json.loads(done.stdout) if done.returncode == 0 else []


def use(python: Path, cell: Cell, cwd: Path) -> None:
    """All checks of one environment."""
    checks = cell.checks
    have_torch = "torch" in cell.installed

    def expect(what: str, done: subprocess.CompletedProcess[str], *files: str) -> bool:
        lacking = [name for name in files if not (cwd / name).exists()]
        checks[what] = last_line(done) if done.returncode else f"{lacking[0]} was not written" if lacking else "ok"
        return checks[what] == "ok"

    def egopose(line: str | list[str]) -> subprocess.CompletedProcess[str]:
        return run([str(python), "-m", "egopose", *(line.split() if isinstance(line, str) else line)], cwd)

    timings = [run([str(python), "-c", IMPORT], cwd) for _ in range(3)]
    if expect("import", timings[-1]):
        cell.import_ms = 1e3 * min(float(t.stdout) for t in timings)
        if cell.import_ms > 1e3 * IMPORT_BUDGET_S:
            checks["import"] = f"{cell.import_ms:.0f} ms beyond numpy"
    known = verbs(python, cwd)
    done = run([str(python), "-c", HELP, json.dumps(known)], cwd)
    failed = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else [last_line(done)]
    checks["help"] = "ok" if known and not failed else f"no help of {', '.join(failed) or 'any verb'}"
    made = run([str(python), "-c", MAKE], cwd)
    if not expect("capture", made, "rig.toml", "kp.csv", "truth.npz"):
        return
    video, camera, trajectory = made.stdout.strip().splitlines()[-4:-1]
    if expect(
        "triangulate", egopose("triangulate rig.toml kp.csv --out joints.npz --report report.html"), "joints.npz"
    ):
        expect("evaluate", egopose("evaluate pose joints.npz truth.npz --out scores.json"), "scores.json")
        if checks["evaluate"] == "ok":
            error = json.loads((cwd / "scores.json").read_text())["metrics"]["mpjpe_mm"]
            checks["evaluate"] = "ok" if 0 < error < 5 else f"error {error} mm, expected less than 5"
        expect("convert", egopose("convert joints.npz joints.trc"), "joints.trc")
        expect("view", egopose("view joints.npz --against truth.npz --html page.html"), "page.html")
    predicted = egopose(["predict", video, "--camera", camera, "--trajectory", trajectory, "--out", "ego.npz"])
    if have_torch:
        expect("predict", predicted, "ego.npz")
    else:
        checks["predict"] = names_the_lack(predicted, "torch")
    expect("weights", egopose("weights"))
    (cwd / "takes.csv").write_text("name\na\n")
    (cwd / "videos").mkdir(exist_ok=True)
    for view in ("cam01", "cam02"):
        shutil.copy(cwd / video, cwd / "videos" / f"{view}.mp4")
    for extra, lines in ABSENT_EXTRAS.items():
        for line in lines:
            checks[f"[{extra}] {' '.join(line.split()[:1] + [w for w in line.split() if w.startswith('--')][:1])}"] = (
                names_the_lack(egopose(line), f"egopose[{extra}]")
            )


def names_the_lack(done: subprocess.CompletedProcess[str], what: str) -> str:
    """ "ok" when a command was refused in one line that names what is missing."""
    lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("warning:")]
    if done.returncode != 1 or len(lines) != 1 or what not in lines[0]:
        return f"{last_line(done)[:200]} (expected one line that names {what})"
    return "ok"


def table(cells: list[dict]) -> str:
    """The matrix as a Markdown table."""
    head = ["Python", "versions", *SHOWN, "import", "result"]
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for cell in cells:
        have, checks = cell["installed"], cell["checks"]
        bad = [f"{name}: {said}" for name, said in checks.items() if said != "ok"]
        result = "; ".join(bad) if bad else f"{len(checks)} checks pass"
        ms = "-" if cell["import_ms"] is None else f"{cell['import_ms']:.0f} ms"
        cols = [cell["python"], cell["versions"], *[have.get(name, "not installed") for name in SHOWN], ms, result]
        rows.append(f"| {' | '.join(cols)} |")
    return "\n".join(rows)


def keep(cell: Cell) -> None:
    """Put a cell into the stored results, over an older one of its kind, and render the page."""
    old = json.loads(RESULTS.read_text())["cells"] if RESULTS.exists() else []
    others = [c for c in old if (c["python"], c["versions"]) != (cell.python, cell.versions)]
    cells = sorted([*others, asdict(cell)], key=lambda c: (PYTHONS.index(c["python"]), c["versions"] == "newest"))
    RESULTS.write_text(json.dumps({"cells": cells}, indent=1) + "\n")
    write_page({"cells": cells})


def write_page(stored: dict) -> None:
    """Put the table into its place on the page."""
    text = PAGE.read_text()
    block = f"<!-- matrix -->\n{table(stored['cells'])}\n<!-- /matrix -->"
    text, n = re.subn(r"<!-- matrix -->\n.*?<!-- /matrix -->", lambda _: block, text, flags=re.S)
    assert n == 1, f"{PAGE} has no place for the table"
    PAGE.write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--python", action="append", default=[], choices=PYTHONS, help="only this one")
    parser.add_argument("--only", choices=("oldest", "newest"), help="half of the matrix")
    parser.add_argument("--work", type=Path, help="work here and leave the environments")
    parser.add_argument("--gpu-wheels", action="store_true", help="take torch for graphics cards where no other is")
    parser.add_argument("--tables-only", action="store_true", help="render the stored results")
    options = parser.parse_args()
    if options.tables_only:
        write_page(json.loads(RESULTS.read_text()))
        return 0
    pythons = {v: p for v, p in find_pythons().items() if not options.python or v in options.python}
    if not pythons:
        print(f"none of the Pythons {', '.join(PYTHONS)} starts here")
        return 1
    work = options.work or Path(tempfile.mkdtemp(prefix="egopose-matrix-"))
    work = work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    cells: list[Cell] = []
    try:
        # from a copy: a build folder of an earlier day would slip into the wheel
        copied = shutil.ignore_patterns(".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, work / "source", ignore=copied, dirs_exist_ok=True)
        wheel = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "-w",
            str(work / "wheel"),
            str(work / "source"),
        ]
        built = run(wheel, work)
        wheels = list((work / "wheel").glob("egopose-*.whl"))
        if not wheels:
            print(f"the wheel could not be built: {last_line(built)}")
            return 1
        for version, program in pythons.items():
            for what in ("oldest", "newest"):
                if options.only not in (None, what):
                    continue
                cell, start = Cell(version, what), time.perf_counter()
                place = work / f"{version}-{what}"
                shutil.rmtree(place, ignore_errors=True)
                (place / "run").mkdir(parents=True)
                made = run([program, "-m", "venv", str(place / "env")], place)
                python = place / "env" / "bin" / "python"
                if made.returncode == 0:
                    run([str(python), "-m", "pip", "install", "-q", "--upgrade", "pip"], place)
                    said = install(python, wheels[0], what == "oldest", options.gpu_wheels, cell, place / "run")
                else:
                    said = last_line(made)
                cell.checks["install"] = said
                if said == "ok":
                    use(python, cell, place / "run")
                cell.seconds = time.perf_counter() - start
                cells.append(cell)
                # after each cell: an interrupted or partial run keeps what it has measured
                keep(cell)
                bad = {name: said for name, said in cell.checks.items() if said != "ok"}
                print(
                    f"{version} {what}, torch {cell.torch}, {cell.seconds:.0f} s: {json.dumps(bad) if bad else 'ok'}",
                    flush=True,
                )
                if options.work is None:
                    shutil.rmtree(place, ignore_errors=True)
        return 0 if all(cell.good for cell in cells) else 1
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
