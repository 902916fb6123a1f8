"""Make the README's screenshots: start the page, look at it in Chromium, write small PNGs.

Run ``python docs/screenshots.py`` in the checkout; needs Playwright and a Chromium.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "screenshots"
LARGEST_BYTES = 300_000
COLOURS = 128
R1 = (
    "/?v=1&m=deepseek-ai/DeepSeek-R1&t=inference&w=fp8&kv=auto&e=vllm&n=32&in=3072&out=1024"
    "&g=h200-sxm&c=8"
)
# name, address, width × height, colours, language, the chart to wait for
SHOTS = (
    ("planner", "/", (1280, 800), "light", "en-US", "meter"),
    ("planner-zh-dark", R1, (1280, 800), "dark", "zh-CN", "meter"),
    ("phone", "/", (390, 844), "light", "en-US", "meter"),
    ("purchase", "/purchase", (1280, 1500), "light", "en-US", "front"),
)


def start() -> tuple[subprocess.Popen[bytes], str]:
    """Start the page on a free loopback port and wait until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = str(ROOT / "streamlit_app.py")
    options = ["--server.port", str(port), "--server.address", "127.0.0.1"]
    command = [sys.executable, "-m", "streamlit", "run", script, *options]
    process = subprocess.Popen(
        [*command, "--server.headless", "true"], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).close()
            return process, url
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    process.terminate()
    raise RuntimeError("the page did not start")


def save(name: str, picture: bytes) -> None:
    """Write a PNG with few colours, small enough for a repository."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.png"
    image = Image.open(BytesIO(picture)).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise RuntimeError(f"{path.name} has {size} bytes")
    print(f"{path.relative_to(ROOT)}: {size // 1000} kB")


def main() -> None:
    """Take all screenshots."""
    process, url = start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for name, address, (width, height), scheme, locale, chart in SHOTS:
                page = browser.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme=scheme,  # type: ignore[arg-type]
                    locale=locale,
                ).new_page()
                page.goto(url + address)
                page.locator(f".st-key-{chart} .js-plotly-plot").wait_for()
                page.wait_for_timeout(1500)
                save(name, page.screenshot())
            browser.close()
    finally:
        process.terminate()
        process.wait(timeout=10)


if __name__ == "__main__":
    main()
