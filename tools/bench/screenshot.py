"""Take the README's picture of the page with the demo's data: `make screenshot`."""

from datetime import UTC, datetime

from browser import CHROMIUM, chromium, watched_page
from database import private_server
from live import ROOT, Gunicorn
from tools.demo.demo import ADMIN_KEY, DEMO_SECRET, load_demo

PICTURE = ROOT / "docs" / "top-spenders.png"
OPTIONS = {"viewport": {"width": 1120, "height": 660}, "device_scale_factor": 1.5, "timezone_id": "UTC"}

if CHROMIUM is None:
    raise SystemExit("Chromium is not installed (Debian: apt-get install chromium).")
with (
    private_server() as server,
    Gunicorn(load_demo(server, datetime.now(UTC)), API_KEY_SECRET=DEMO_SECRET) as gunicorn,
    chromium() as browser,
    watched_page(browser, f"http://127.0.0.1:{gunicorn.port}", **OPTIONS) as page,
):
    page.goto("/")
    page.get_by_label("API key of an administrator").fill(ADMIN_KEY)
    page.get_by_role("button", name="Show top spenders").click()
    page.locator(".share .bar").first.wait_for()
    page.mouse.move(0, 0)  # so that nothing is highlighted
    page.screenshot(path=PICTURE)
