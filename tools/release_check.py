"""Before a release: licences of the dependency tree, known vulnerabilities, and a bill of materials.

Usage: python tools/release_check.py [--tools FOLDER] [--out FOLDER] [--licences-only]

Licences come from the metadata of what is installed here and need no network. Vulnerabilities (pip-audit) and the
CycloneDX bill of materials (cyclonedx-py) need those two programs, in --tools or on the path; `make release-check`
installs them apart from the environment that is checked. Where no advisory service answers, the audit says so and does
not fail, unless --require-audit asks for it: an audit that looked nothing up is no clean audit.

Packages are those that `pip install egopose[...]` brings, found by walking the requirements, not everything that
happens to be installed.
"""

from __future__ import annotations

import argparse
import importlib.metadata as metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
NON_COMMERCIAL = {"smplx": "the body models may be used for research only, and so the extra is not among the defaults"}
"""Extras whose packages restrict use; they are never part of another extra that users install."""
ROOT_NAME = "egopose"
DEVELOPMENT = ("test", "docs", "dev")
"""Extras of people who work on the package; nothing of them reaches a user."""

PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "CNRI-Python", "HPND", "ISC", "MIT", "MIT-CMU", "NCSA", "PSF-2.0", "Unlicense", "Zlib",
}  # fmt: skip
FILE_LEVEL = {"MPL-2.0"}
"""Copyleft that reaches the package's own files only; accepted in extras, reported, never in the base install."""

SPELLINGS = {
    "apache 2.0": "Apache-2.0", "apache 2.0 license": "Apache-2.0", "apache software license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0", "apache": "Apache-2.0",
    "bsd license": "BSD", "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause license": "BSD-3-Clause", "3-clause bsd license": "BSD-3-Clause", "new bsd": "BSD-3-Clause",
    "isc license": "ISC", "isc license (iscl)": "ISC", "mit license": "MIT", "the mit license (mit)": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "python software foundation license": "PSF-2.0",
    "historical permission notice and disclaimer (hpnd)": "HPND", "zlib/libpng license": "Zlib",
    "the unlicense (unlicense)": "Unlicense",
}  # fmt: skip
KNOWN = {
    "ezc3d": ("MIT", "the licence file of its repository; the wheel's metadata names none"),
}
"""Packages without a licence in their metadata: what it is and where that stands."""

AUDIT_LACKS = "; VULNERABILITIES WERE NOT CHECKED: no advisory service answered"
"""Ends the last line when nothing was looked up: a check that was not made is no clean result."""

BUNDLED = {
    "GPL": ("libx264", "libx265", "libxvidcore", "libpostproc"),
    "LGPL": ("libavcodec", "libavformat", "libavutil", "libavfilter", "libavdevice", "libswscale", "libswresample",
             "libgnutls", "libhogweed", "libnettle", "libgmp", "libunistring", "libmp3lame", "libasound", "libQt5Core"),
}  # fmt: skip
"""Shared libraries whose licence is copyleft, by the start of their file names; wheels carry them along."""
ACCEPTED_BUNDLES = {
    (
        "av",
        "GPL",
    ): "decoding and encoding of video; who ships the wheel on (a container image) has duties for x264, x265",
    ("av", "LGPL"): "FFmpeg, linked dynamically and replaceable",
    ("opencv-python", "LGPL"): "FFmpeg and Qt, linked dynamically and replaceable",
    ("opencv-python-headless", "LGPL"): "FFmpeg, linked dynamically and replaceable",
}
"""Bundled copyleft that is known and explained; anything else fails the check."""


@dataclass(frozen=True)
class Package:
    """One installed package of the tree.

    Attributes:
        name: Canonical name.
        version: Installed version.
        licence: SPDX terms joined by AND / OR, or "unknown".
        origin: "base", or the extras that bring it.
        bundled: Copyleft libraries inside the wheel: ("GPL", "libx264") and so on.
    """

    name: str
    version: str
    licence: str
    origin: str
    bundled: tuple[tuple[str, str], ...] = ()


def project() -> dict[str, list[str]]:
    """Requirements by extra, "" for the base install, as pyproject.toml states them.

    Not from the installed metadata: that of an editable install may be older than the file.
    """
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": stated["dependencies"], **stated["optional-dependencies"]}


def stated_version() -> str:
    """The version that pyproject.toml states."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def requirements(name: str, extras: Iterable[str]) -> list[tuple[str, frozenset[str]]]:
    """Direct requirements (name, extras) of a package on this machine."""
    if name == ROOT_NAME:
        texts = [(text, extra) for extra in ("", *extras) for text in project()[extra]]
    else:
        texts = [(text, extra) for text in metadata.requires(name) or [] for extra in ("", *extras)]
    found = []
    for text, extra in texts:
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
            found.append((canonicalize_name(wanted.name), frozenset(wanted.extras)))
    return found


def installed(name: str) -> str | None:
    """The name under which a package is installed, or None; OpenCV comes in two wheels of one content."""
    for each in (name, f"{name}-headless"):
        try:
            metadata.distribution(each)
            return each
        except metadata.PackageNotFoundError:
            continue
    return None


def tree(extras: Iterable[str] = ()) -> tuple[set[str], set[str]]:
    """Names of all packages that this package with some extras needs: those installed here, and those not."""
    here: set[str] = set()
    absent: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [(ROOT_NAME, frozenset(extras))]
    while todo:
        name, wanted = todo.pop()
        if name != ROOT_NAME:
            found = installed(name)
            if found is None:
                absent.add(name)
                continue
            name = found
            here.add(name)
        if (name, wanted) not in seen:
            seen.add((name, wanted))
            todo += requirements(name, wanted)
    return here, absent


def terms(text: str) -> list[list[str]]:
    """An SPDX expression as alternatives (OR) of lists of terms (AND); brackets one level deep."""
    text = re.sub(r"\s+", " ", text.strip())
    if " AND (" in text or ") AND " in text:
        parts = [part.strip("() ") for part in re.split(r" AND (?=\()|(?<=\)) AND ", text)]
        result: list[list[str]] = [[]]
        for part in parts:
            result = [left + right for left in result for right in terms(part)]
        return result
    return [[term.strip("() ") for term in way.split(" AND ")] for way in text.split(" OR ")]


def spdx(text: str) -> str | None:
    """The SPDX name of a licence in the words that packages use; None when the words say nothing."""
    line = text.strip().splitlines()[0].strip() if text.strip() else ""
    if not line or line.upper() == "UNKNOWN" or line in ("OSI Approved", "Other/Proprietary License"):
        return None
    return SPELLINGS.get(line.lower(), line)


def licence_of(name: str) -> str:
    """Licence of an installed package: the SPDX field, else classifiers, else the free text, else what is known."""
    about = metadata.metadata(name)
    expression = about.get("License-Expression")
    if expression:
        return expression
    classified = [
        c.split(" :: ")[-1]
        for c in about.get_all("Classifier") or []
        if c.startswith("License :: ") and c.count("::") > 1
    ]
    named = sorted({found for c in classified if (found := spdx(c))})
    if named:
        return " AND ".join(named)
    free = about.get("License") or ""
    # a whole licence text in the field: its first line is a title at best
    return spdx(free) or KNOWN.get(canonicalize_name(name), ("unknown", ""))[0]


def bundled_in(name: str) -> tuple[tuple[str, str], ...]:
    """Copyleft shared libraries among the files of an installed package."""
    files = [Path(str(file)).name for file in metadata.files(name) or [] if ".so" in str(file) or ".dll" in str(file)]
    found = {
        (kind, start)
        for kind, starts in BUNDLED.items()
        for start in starts
        for file in files
        if file.startswith(start)
    }
    return tuple(sorted(found))


def collect() -> tuple[list[Package], set[str]]:
    """All packages of the base install and of the extras that users install; names that are not installed here."""
    base, absent = tree()
    origins = {name: ["base"] for name in base}
    for extra in project():
        if not extra or extra in DEVELOPMENT or extra in NON_COMMERCIAL:
            continue
        more, gone = tree([extra])
        absent |= gone
        for name in more - base:
            origins.setdefault(name, []).append(extra)
    packages = [
        Package(name, metadata.version(name), licence_of(name), ", ".join(origin), bundled_in(name))
        for name, origin in sorted(origins.items())
    ]
    return packages, absent


def complaint(package: Package) -> str | None:
    """Why a package may not be there; None when it may."""
    ways = terms(package.licence)
    allowed = PERMISSIVE if package.origin == "base" else PERMISSIVE | FILE_LEVEL
    if not any(all(term in allowed for term in way) for way in ways):
        what = "its licence is unknown" if package.licence == "unknown" else f"{package.licence} is not accepted here"
        return f"{package.name} {package.version} ({package.origin}): {what}"
    kinds = {kind for kind, _ in package.bundled}
    surprise = sorted(kind for kind in kinds if (package.name, kind) not in ACCEPTED_BUNDLES)
    if surprise:
        names = ", ".join(name for kind, name in package.bundled if kind in surprise)
        return f"{package.name} {package.version} ({package.origin}): its wheel carries {names} ({surprise[0]})"
    return None


def misplaced() -> list[str]:
    """Packages of non-commercial extras that another extra of users, or the base, brings as well."""
    trouble = []
    for extra in NON_COMMERCIAL:
        direct = {canonicalize_name(Requirement(text).name) for text in project().get(extra, [])}
        for other in project():
            if other in NON_COMMERCIAL or other in DEVELOPMENT:
                continue
            here, absent = tree([other])
            if both := direct & (here | absent):
                trouble.append(
                    f"{', '.join(sorted(both))} belongs to [{extra}] alone and comes with [{other or 'base'}]"
                )
    return trouble


def table(packages: Sequence[Package]) -> str:
    """The licence report as a Markdown table."""
    rows = ["| package | version | licence | brought by | copyleft libraries in the wheel |", "|---|---|---|---|---|"]
    for p in packages:
        bundled = "; ".join(
            f"{kind}: {', '.join(name for k, name in p.bundled if k == kind)}" for kind in dict(p.bundled)
        )
        rows.append(f"| {p.name} | {p.version} | {p.licence} | {p.origin} | {bundled} |")
    return "\n".join(rows)


def check_licences(out: Path) -> bool:
    """Write ``licences.md``; whether everything is accepted."""
    packages, absent = collect()
    trouble = [found for package in packages if (found := complaint(package))] + misplaced()
    lacking = tree()[1]
    if lacking:
        trouble.append(
            f"not installed here: {', '.join(sorted(lacking))} of the base install; run it in `make setup`'s .venv"
        )
    notes = [f"{name} ({kind} inside the wheel): {why}" for (name, kind), why in ACCEPTED_BUNDLES.items()
             if any(p.name == name and (kind in dict(p.bundled)) for p in packages)]  # fmt: skip
    notes += [f"{name}: {licence}, {why}" for name, (licence, why) in KNOWN.items()]
    notes += [f"extra [{extra}] is non-commercial and not checked: {why}" for extra, why in NON_COMMERCIAL.items()]
    if absent:
        notes.append(f"not installed here and not checked: {', '.join(sorted(absent))}")
    text = "\n\n".join(["# Licences of the dependency tree", table(packages), "\n".join(f"* {note}" for note in notes)])
    (out / "licences.md").write_text(text + "\n")
    base = sum(p.origin == "base" for p in packages)
    print(
        f"licences: {base} packages in the base install, {len(packages) - base} more with extras; {out / 'licences.md'}"
    )
    for note in notes:
        print(f"  note: {note}")
    for line in trouble:
        print(f"  REFUSED: {line}")
    return not trouble


def find_tool(name: str, folder: Path | None) -> str | None:
    """Path of a program, in the folder or on the path."""
    if folder is not None and (folder / name).exists():
        return str(folder / name)
    return shutil.which(name)


def check_vulnerabilities(out: Path, tool: str | None, required: bool) -> bool:
    """Write ``audit.json``; whether nothing is known against any package.

    Args:
        out: Folder.
        tool: pip-audit, or None.
        required: Without it an audit that cannot be done (no tool, no service) says so and passes.
    """
    (out / "audit.json").unlink(missing_ok=True)
    if tool is None:
        print("vulnerabilities: pip-audit is not installed; not checked")
        return not required
    packages, _ = collect()
    with tempfile.TemporaryDirectory() as work:
        listed = Path(work) / "tree.txt"
        # a local build tag is no release of the index
        listed.write_text("".join(f"{p.name}=={p.version.split('+')[0]}\n" for p in packages))
        target = Path(work) / "audit.json"
        command = [tool, "-r", str(listed), "--no-deps", "--disable-pip", "--progress-spinner", "off",
                   "--timeout", "20", "-f", "json", "-o", str(target)]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired:
            print("vulnerabilities: the index did not answer within 10 minutes; not checked")
            return not required
        if not target.exists() or not target.read_text().strip():
            last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
            if re.search(r"connect|timed? ?out|resolve|network|unreachable|proxy|ServiceError", done.stderr, re.I):
                print(f"vulnerabilities: no network, not checked ({last[:120]})")
                return not required
            print(f"vulnerabilities: pip-audit failed: {last}")
            return False
        found = json.loads(target.read_text())
    bad = [
        (d["name"], d["version"], v["id"], v.get("fix_versions"))
        for d in found["dependencies"]
        for v in d.get("vulns", [])
    ]
    skipped = [d["name"] for d in found["dependencies"] if "skip_reason" in d]
    looked_up = len(found["dependencies"]) - len(skipped)
    if not looked_up:
        print("vulnerabilities: the index answered about no package (a mirror without advisories); not checked")
        return not required
    (out / "audit.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"vulnerabilities: {looked_up} packages looked up, {len(bad)} known; {out / 'audit.json'}")
    for name, version, identity, fixed in bad:
        print(f"  REFUSED: {name} {version}: {identity}, fixed in {', '.join(fixed or []) or 'no release'}")
    if skipped:
        print(f"  note: not on the index: {', '.join(skipped)}")
    return not bad


def write_bill(out: Path, tool: str | None) -> bool:
    """Write ``egopose-<version>.cdx.json``: CycloneDX, the tree only; whether that worked."""
    if tool is None:
        print("bill of materials: cyclonedx-py is not installed; not written")
        return True
    command = [tool, "environment", "--output-reproducible", "--mc-type", "library", "--pyproject",
               str(ROOT / "pyproject.toml"), "--of", "JSON", "-o", "-", sys.executable]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"bill of materials: cyclonedx-py failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        return False
    bill = json.loads(done.stdout)
    wanted = {package.name for package in collect()[0]}
    bill["components"] = [c for c in bill["components"] if canonicalize_name(c["name"]) in wanted]
    kept = {c["bom-ref"] for c in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    bill["dependencies"] = [
        {**d, "dependsOn": [r for r in d.get("dependsOn", []) if r in kept]}
        for d in bill["dependencies"]
        if d["ref"] in kept
    ]
    lacking = wanted - {canonicalize_name(c["name"]) for c in bill["components"]}
    path = out / f"egopose-{stated_version()}.cdx.json"
    path.write_text(json.dumps(bill, indent=1) + "\n")
    print(f"bill of materials: {len(bill['components'])} components, CycloneDX {bill['specVersion']}; {path}")
    if lacking:
        print(f"  REFUSED: not in the bill: {', '.join(sorted(lacking))}")
    return not lacking


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tools", type=Path, help="folder with pip-audit and cyclonedx-py")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the three files go")
    parser.add_argument("--require-audit", action="store_true", help="fail when vulnerabilities cannot be looked up")
    parser.add_argument("--licences-only", action="store_true", help="no audit, no bill of materials")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    good = check_licences(options.out)
    if not options.licences_only:
        good &= check_vulnerabilities(options.out, find_tool("pip-audit", options.tools), options.require_audit)
        good &= write_bill(options.out, find_tool("cyclonedx-py", options.tools))
    unknown = "" if options.licences_only or (options.out / "audit.json").exists() else AUDIT_LACKS
    print(f"the release check {'passes' if good else 'FAILS'}{unknown}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
