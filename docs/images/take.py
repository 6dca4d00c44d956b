"""Take the pictures of the docs: ``python docs/images/take.py [chromium]`` while ``llmobs demo --port 8765`` runs."""

import sys
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright

ADMIN = "http://127.0.0.1:8765/_llmobs/"
CHROMIUM = sys.argv[1] if len(sys.argv) > 1 else "/usr/bin/chromium"
HERE = Path(__file__).parent


def main() -> None:
    """One picture for each page that the README and the docs show."""
    agent = next(row for row in httpx.get(f"{ADMIN}traces.json").json()["rows"] if row["name"] == "POST /agent")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 840})
        for name, address in (("first-page", "requests"), ("trace", f"traces/{agent['trace_id']}")):
            page.goto(ADMIN + address)
            page.screenshot(path=HERE / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
