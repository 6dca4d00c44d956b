"""Take the pictures of the docs from the data of the demo: ``python docs/images/take.py [chromium]``. Needs Pillow."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import sync_playwright

PORT = 8765
ADMIN = f"http://127.0.0.1:{PORT}/_llmobs/"
CHROMIUM = sys.argv[1] if len(sys.argv) > 1 else "/usr/bin/chromium"
HERE = Path(__file__).parent
ASKED = "children status:ok user:ada model:gpt-4.1-mini"
COLOURS = 256  # those that are rare, a green tick for instance, count as much as the others
LARGEST = 150_000  # bytes of a picture


def pictures() -> dict[str, str]:
    """The pages that the README and the docs show, by the name of their picture."""
    rows = httpx.get(f"{ADMIN}traces.json", timeout=60).json()["rows"]
    agent = next(row for row in rows if row["name"] == "POST /agent")
    asked = httpx.get(f"{ADMIN}requests.json", params={"q": ASKED}, timeout=60).json()["rows"][0]
    return {
        "first-page": "requests",
        "request": f"requests/{asked['id']}",
        "trace": f"traces/{agent['trace_id']}",
    }


def take(page: Any, name: str, address: str) -> None:
    """One picture, with as few colours as it needs."""
    path = HERE / f"{name}.png"
    page.goto(ADMIN + address)
    page.wait_for_timeout(500)
    page.screenshot(path=path)
    whole = Image.open(path).convert("RGB")
    few = whole.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes")


def main() -> None:
    """Start the demo, take all pictures, stop it."""
    command = [sys.executable, "-u", "-m", "asgi_llmobs", "demo", "--port", str(PORT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo, sync_playwright() as playwright:  # noqa: S603
        try:
            assert demo.stdout is not None
            next(line for line in demo.stdout if line.startswith("the admin:"))
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 860})
            for name, address in pictures().items():
                take(page, name, address)
            browser.close()
        finally:
            demo.terminate()


if __name__ == "__main__":
    main()
