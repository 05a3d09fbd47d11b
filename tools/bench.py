"""Run the benchmarks and put their tables into the docs.

Each script under benchmarks/ measures ratios to named peers in one process, writes benchmarks/results/<name>.json with
the machine it ran on, and renders its own table. Usage: python tools/bench.py [NAME ...] [--tables-only]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HELPERS = {"common", "peers"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scripts = {p.stem: p for p in sorted((ROOT / "benchmarks").glob("*.py")) if p.stem not in HELPERS}
    parser.add_argument("names", nargs="*", help=f"of {', '.join(scripts)}; all by default")
    parser.add_argument("--tables-only", action="store_true", help="render the stored results, measure nothing")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in scripts]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}")
    failed = []
    for name in options.names or scripts:
        command = [sys.executable, str(scripts[name]), *(["--tables-only"] if options.tables_only else [])]
        print("+", " ".join(command), flush=True)
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
