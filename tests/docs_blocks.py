"""Code blocks of the pages: found, checked and run as a reader would."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egopose.cli import main
from egopose.errors import EgoposeWarning

ROOT = Path(__file__).resolve().parent.parent
RUNNABLE = ("python", "bash", "console")
SHOWN = ("text", "yaml", "json")
UNTESTED = re.compile(r"#.*\buntested: (\S.*)")
"""A comment that says why what follows in its block is not run by the tests; readers see it as well."""

# what a page asks for, and what the tests ask for in its place
SMALLER = {
    "--clips 20": "--clips 1",
    "--workers 8": "--workers 1",
    "synth ego-exo4d stand-in --takes 3": "synth ego-exo4d stand-in --takes 1 --seconds 1 --no-videos",
}
KEEP = {"docs/tutorial.md"}
"""Pages that are run with the settings they show."""


@dataclass(frozen=True)
class Block:
    """One fenced block: its page, the line of its fence, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README and every page of the site, in order."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "egopose/weights").glob("*.md")),
    ]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page; what a script wrote between its markers is left out."""
    text = page.read_text()
    for name in re.findall(r"^<!-- ([\w -]+) -->$", text, re.M):
        # same number of lines, so that places stay true
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
    found = re.finditer(r"^```(\S*)[^\n]*\n(.*?)^```$", text, re.M | re.S)
    return [Block(page, text[: m.start()].count("\n") + 1, m[1], m[2]) for m in found]


def untested(block: Block) -> list[str]:
    """Commands or the code that a comment exempts."""
    mark = UNTESTED.search(block.text)
    if mark is None:
        return []
    if block.language == "python":
        return [block.text]
    return [command for command, _ in commands(block.text[mark.start() :], block.language)]


def commands(text: str, language: str) -> list[tuple[str, str]]:
    """Commands of a shell block with the output that the page shows ("" where it shows none)."""
    found: list[tuple[str, str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        if language == "console":
            if line.startswith("$ "):
                found.append((line[2:], ""))
            elif found and not line.lstrip().startswith("#"):
                found[-1] = (found[-1][0], found[-1][1] + line + "\n")
        elif line.strip() and not line.startswith("#"):
            found.append((line, ""))
    return found


def matches(shown: str, said: str) -> bool:
    """Whether an output is what a page shows, where ``...`` stands for anything, over several lines too."""
    parts = [re.escape(part) for part in re.sub(r"[ \t]+", " ", shown.strip()).split("...")]
    pattern = ".*?".join(re.sub(r"(\\ |\\\n|\n)+$", "", part) if i == 0 else part for i, part in enumerate(parts))
    return re.fullmatch(r"\s*" + pattern + r"\s*", re.sub(r"[ \t]+", " ", said.strip()), re.S) is not None


class Runner:
    """Runs the blocks of one page in one folder, with one Python scope."""

    def __init__(self, scope: dict[str, Any], *, smaller: bool) -> None:
        self.scope, self.smaller, self.used = {"__name__": "page", **scope}, smaller, set[str]()

    def run(self, block: Block) -> None:
        """Run what can be run of a block.

        Raises:
            AssertionError: Something failed, or said something else than the page shows.
        """
        mark = UNTESTED.search(block.text)
        if block.language == "python":
            code = compile("\n" * block.line + block.text, str(block.page), "exec")
            if mark is None:
                with warnings.catch_warnings():
                    warnings.simplefilter("default", EgoposeWarning)
                    exec(code, self.scope)
            return
        for command, shown in commands(block.text[: mark.start() if mark else None], block.language):
            self.shell(command, shown, block.where)

    def shell(self, command: str, shown: str, where: str) -> None:
        for asked, small in SMALLER.items() if self.smaller else ():
            if asked in command:
                command = command.replace(asked, small)
                self.used.add(asked)
        words = shlex.split(command, comments=True)
        if words[:1] == ["cat"]:
            # a file that the page shows is there as it is shown
            Path(words[1]).write_text(shown)
            return
        if words[:1] != ["egopose"]:
            check(words, where)
            return
        status, said, complaint = call(words[1:])
        assert status == 0, f"{where}: {command}\nended with {status}\n{said}{complaint}"
        assert not shown or matches(shown, said), f"{where}: {command}\nthe page shows\n{shown}\nit says\n{said}"


def call(arguments: list[str]) -> tuple[int, str, str]:
    """Run the program in this process; returns its status, what it said and what it complained about."""
    said, complaint = io.StringIO(), io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaint):
        warnings.simplefilter("default")
        try:
            status = main(arguments)
        except SystemExit as stop:
            status = int(stop.code or 0)
    return status, said.getvalue(), complaint.getvalue()


def check(words: list[str], where: str) -> None:
    """Commands that are not the program's own: what they name exists.

    Raises:
        AssertionError: It does not, or nobody knows how to check it.
    """
    if words[0] == "make":
        assert re.search(rf"^{re.escape(words[1])}:", (ROOT / "Makefile").read_text(), re.M), f"{where}: {words}"
    elif words[:2] == ["pip", "install"]:
        for extra in re.findall(r"(?:\.|egopose)\[([\w,]+)\]", " ".join(words)):
            listed = (ROOT / "pyproject.toml").read_text()
            assert all(re.search(rf"^{name} = \[", listed, re.M) for name in extra.split(",")), f"{where}: {extra}"
    elif words[0] == "python" and len(words) > 1 and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file() or not (ROOT / words[1]).parent.is_dir(), f"{where}: no {words[1]}"
    elif words[0] == "torchrun":
        assert words[words.index("-m") + 1] == "egopose", f"{where}: {words}"
    else:
        raise AssertionError(f"{where}: nobody knows how to check {' '.join(words)!r}")


@contextlib.contextmanager
def inside(folder: Path) -> Any:
    """Work in a folder, and leave formats, environment and place as they were."""
    from egopose.io.registry import REGISTRY

    before, place, environment = dict(REGISTRY), Path.cwd(), dict(os.environ)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(place)
        REGISTRY.clear()
        REGISTRY.update(before)
        os.environ.clear()
        os.environ.update(environment)
