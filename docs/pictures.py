"""Makes the pictures of these pages anew, from a search that has ended.

    python -m docs.pictures RUN [--tracking-uri URI] [--output FOLDER]

RUN is a name (its latest run), NAME/RUN, or a run directory; `make search` makes one called smile-digits. Written are
`report.png`, the top of its report, and `mlflow.png`, the trials of the latest search of the store in the MLflow UI.
Needs playwright (extra `dev`), a chromium (Debian: `apt-get install chromium`) and Pillow; nothing is downloaded, and
nothing is changed in the run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tuner.record.find import EXPERIMENTS, find_run

IMAGES = Path(__file__).parent / "images"
MAX_BYTES = 200 * 1024
"""A picture in a repository is fetched by everybody who clones it."""
TIMEOUT_S = 120.0
COLOURS = 255
"""Flat colours and text: a palette of so many shows no difference, at half the size or less."""
SHOWN = ("best", "data", "baselines", "leading")
"""Sections of the report below its numbers; with all of them the picture would be three screens high."""

REPORT_SIZE = {"width": 1000, "height": 900}
MLFLOW_SIZE = {"width": 1500, "height": 530}
CLOSED = {"mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true", "mlflow.assistant.panelOpen_v1": "false"}
"""What the MLflow UI remembers of a person who has closed its assistant."""


def main() -> int:
    """Makes both pictures. Exit code 1 where there is no browser, or a picture is too large."""
    parser = argparse.ArgumentParser(prog="python -m docs.pictures", description=__doc__.splitlines()[0])
    parser.add_argument("run", metavar="RUN", help="its name (the latest run), NAME/RUN, or its directory")
    parser.add_argument("--directory", type=Path, default=EXPERIMENTS, metavar="FOLDER", help="of the experiments")
    parser.add_argument("--tracking-uri", metavar="URI", help="the store (default: MLFLOW_TRACKING_URI or ./mlflow.db)")
    parser.add_argument("--output", type=Path, default=IMAGES, metavar="FOLDER")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("no chromium on this machine (Debian: apt-get install chromium)", file=sys.stderr)
        return 1
    run = find_run(arguments.run, arguments.directory, "RUN")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        report = save(picture_of_report(browser, run.report), arguments.output / "report.png")
        with ui(arguments.tracking_uri) as address:
            mlflow = save(picture_of_trials(browser, address), arguments.output / "mlflow.png")
        browser.close()
    return int(max(report, mlflow) > MAX_BYTES)


def picture_of_report(browser: Browser, file: Path) -> bytes:
    """The report's first screen without its commands, and the leading trials. As PNG."""
    page = new_page(browser, REPORT_SIZE)
    page.goto(file.resolve().as_uri())
    page.wait_for_selector("html[data-drawn]")
    others = "".join(f":not(#{section})" for section in SHOWN)
    page.evaluate("others => document.querySelectorAll(others).forEach(e => e.remove())", f"nav, section{others}")
    last = "[...document.querySelectorAll('section')].at(-1)"
    height = page.evaluate(f"{last}.getBoundingClientRect().bottom + scrollY")
    return page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": REPORT_SIZE["width"], "height": height + 16})


def picture_of_trials(browser: Browser, address: str) -> bytes:
    """The table of a search's trials in the MLflow UI, best first. As PNG."""
    page = new_page(browser, MLFLOW_SIZE)
    page.add_init_script("".join(f"localStorage.setItem({key!r}, {value!r});" for key, value in CLOSED.items()))
    page.route(lambda url: not url.startswith(address.partition("#")[0]), lambda route: route.abort())
    page.goto(address)
    page.get_by_role("link", name="trial-0000").wait_for()
    page.get_by_role("button", name="Hide banner").click()
    page.get_by_role("button", name="Toggle sidebar").click()
    page.wait_for_timeout(2000)  # columns are laid out anew
    return page.screenshot()


def new_page(browser: Browser, size: dict[str, int]) -> Page:
    """A page in the light colours, at one pixel a dot."""
    page = browser.new_page(viewport={"width": size["width"], "height": size["height"]}, color_scheme="light")
    page.set_default_timeout(1000 * TIMEOUT_S)
    return page


def save(png: bytes, file: Path) -> int:
    """Writes the picture with a palette, and says how large it is. Returns its bytes."""
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
        num_bytes = file.stat().st_size
        print(f"{file}: {picture.width}×{picture.height}, {num_bytes / 1024:.0f} KiB (at most {MAX_BYTES / 1024:.0f})")
    return num_bytes


@contextlib.contextmanager
def ui(uri: str | None) -> Iterator[str]:
    """`tuner.ui` on the store, for the block; the address that it prints, of the trials of the latest search."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = ["--tracking-uri", uri] if uri else []
    command = [sys.executable, "-m", "tuner.ui", "--port", str(port), *store]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, text=True
    ) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", server)
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            os.killpg(server.pid, signal.SIGTERM)


def wait_for(address: str, server: subprocess.Popen[str]) -> None:
    """Returns once the server answers. Raises where it ends, or takes too long."""
    deadline = time.monotonic() + TIMEOUT_S
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, TimeoutError, ConnectionError):
            urllib.request.urlopen(address, timeout=10).close()
            return
        time.sleep(0.2)
    raise RuntimeError(f"{address} does not answer; the server's exit code: {server.poll()}")


if __name__ == "__main__":
    raise SystemExit(main())
