"""Make the pictures of the guide from the embedded capture: ``python tools/screenshots.py`` (needs Chromium)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from egopose.demo import exo_capture
from egopose.triangulate import build_report, triangulate_take
from egopose.view.plots import contact_sheet, save_png
from egopose.view.scene import save_scene_page
from egopose.view.triangulation_report import write_triangulation_report
from tests.browser import Browser, find_chromium

IMAGES = ROOT / "docs" / "images"
READY = "document.body?.dataset.ready === 'yes'"
# error bars of a millimetre are too small to see in a small picture
WIDER = "(() => { const s = document.getElementById('bars'); s.value = '3'; s.dispatchEvent(new Event('change')); })()"


def main() -> int:
    """Write the pictures; returns the exit status."""
    program = find_chromium()
    if program is None:
        print("no Chromium here (Debian: apt-get install chromium)", file=sys.stderr)
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    capture = exo_capture(seconds=4)
    take = triangulate_take(capture.rig, capture.observations)
    assert take.pose is not None
    save_png(contact_sheet(take.pose, against=capture.truth), IMAGES / "contact_sheet.png")
    with tempfile.TemporaryDirectory() as folder, Browser(program) as browser:
        page = browser.page
        scene, report = Path(folder, "scene.html"), Path(folder, "report.html")
        save_scene_page(
            scene, take.pose, against=capture.truth, rig=capture.rig, title="Embedded capture, triangulated"
        )
        write_triangulation_report(build_report(take), report)
        for name, width, height, phone in (("page", 1120, 700, False), ("page_phone", 390, 760, True)):
            page.screen(width, height, phone=phone)
            page.open(scene, fragment="#frame=20")
            page.wait_for(READY)
            page.run(WIDER)
            page.run("new Promise((done) => setTimeout(done, 300))")
            page.screenshot(IMAGES / f"{name}.png")
        page.screen(1080, 760)
        page.open(report)
        page.screenshot(IMAGES / "report.png")
    for path in sorted(IMAGES.glob("*.png")):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
