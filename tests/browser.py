"""A headless Chromium driven over the DevTools protocol: open a page from disk, act on it, read it, photograph it."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
    "--hide-scrollbars", "--mute-audio", "--remote-debugging-port=0", "--remote-allow-origins=*",
)  # fmt: skip


def find_chromium() -> str | None:
    """The browser's program, or None; ``EGOPOSE_CHROMIUM`` names another one."""
    wanted = os.environ.get("EGOPOSE_CHROMIUM")
    return wanted or next((found for name in NAMES if (found := shutil.which(name))), None)


PATIENCE_S = 300.0
"""Seconds for anything that takes a moment on an idle machine; a test may share its cores with many others."""


class Page:
    """One tab. Messages of its console and requests that leave the machine are kept."""

    def __init__(self, address: str) -> None:
        from websockets.sync.client import connect

        self._socket = connect(address, max_size=None, proxy=None, open_timeout=PATIENCE_S, ping_interval=None)
        self._number = 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._loaded: set[str] = set()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def close(self) -> None:
        """Leave the tab."""
        self._socket.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if message.get("id") == self._number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(str(details.get("exception", {}).get("description", details.get("text"))))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Page.lifecycleEvent" and params["name"] == "load":
            self._loaded.add(params["loaderId"])
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("file:", "data:", "blob:", "about:")):
                self.requests.append(url)

    def run(self, expression: str) -> Any:
        """Value of a JavaScript expression; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression[:80]}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = PATIENCE_S) -> Any:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.run(expression):
                return value
            time.sleep(0.05)
        raise AssertionError(f"not true after {seconds:g} s: {expression}; console: {self.errors}")

    def screen(self, width: int, height: int, *, phone: bool = False) -> None:
        """Set the size of the screen in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
                  mobile=phone)  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def open(self, path: Path, *, fragment: str = "") -> None:
        """Load a file from disk and wait for its load event."""
        # through an empty page: a new fragment alone would not load the file again
        self._navigate("about:blank")
        self.errors.clear()
        self.requests.clear()
        self._navigate(path.resolve().as_uri() + fragment)

    def _navigate(self, url: str) -> None:
        """Go to an address and wait until it is loaded, by its own event.

        Nothing is evaluated meanwhile: an answer from a page that is just being left is an error, or never comes.
        """
        answer = self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise AssertionError(f"{url}: {answer['errorText']}")
        loader = answer.get("loaderId")
        end = time.monotonic() + PATIENCE_S
        while loader is not None and loader not in self._loaded:
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"{url}: not loaded after {PATIENCE_S} s; console: {self.errors}")
            try:
                self._note(json.loads(self._socket.recv(timeout=left)))
            except TimeoutError:
                continue

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """A real mouse event: ``mousePressed``, ``mouseMoved``, ``mouseReleased``, ``mouseWheel``."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def touch(self, kind: str, points: list[tuple[float, float]]) -> None:
        """A real touch event: ``touchStart``, ``touchMove``, ``touchEnd``."""
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])

    def drag(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Press, move and release the left button."""
        self.mouse("mousePressed", x0, y0, button="left", clickCount=1)
        for k in range(1, 6):
            self.mouse("mouseMoved", x0 + (x1 - x0) * k / 5, y0 + (y1 - y0) * k / 5, button="left", buttons=1)
        self.mouse("mouseReleased", x1, y1, button="left", clickCount=1)

    def screenshot(self, path: Path | None = None) -> np.ndarray:
        """The visible part as (H, W, 3) uint8; also written as PNG when a path is given."""
        from matplotlib import image

        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            path.write_bytes(data)
        pixels = image.imread(io.BytesIO(data), format="png")
        return (pixels[..., :3] * 255 + 0.5).astype(np.uint8)


class Browser:
    """The process; ``page`` is its one tab."""

    def __init__(self, program: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="egopose-browser-", ignore_cleanup_errors=True)
        profile = self._folder.name
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        port_file = Path(profile, "DevToolsActivePort")
        end = time.monotonic() + PATIENCE_S
        while not (port_file.exists() and port_file.read_text().strip()):
            if self._process.poll() is not None or time.monotonic() > end:
                self.__exit__(None, None, None)
                raise RuntimeError("Chromium did not start")
            time.sleep(0.05)
        port = int(port_file.read_text().split()[0])
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE_S) as answer:
            tabs = json.load(answer)
        self.page = Page(next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"))

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self, "page"):
            self.page.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


@contextmanager
def open_browser() -> Iterator[Page]:
    """The tab of a fresh headless Chromium; skips the test where there is none."""
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium); pages are not looked at")
    pytest.importorskip("websockets", reason="the DevTools protocol needs the websockets package")
    with Browser(program) as browser:
        yield browser.page
