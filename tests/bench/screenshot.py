"""Take the README's picture of the page, with the demo's data: `make screenshot`."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from browser import CHROMIUM, chromium, watched_page
from live import Gunicorn
from service.embedded.demo import ADMIN_KEY, DEMO_SECRET, load_demo
from service.embedded.postgres import PostgresServer

PICTURE = Path(__file__).parent.parent / "docs" / "top-spenders.png"


def main() -> None:
    """Write the picture."""
    if CHROMIUM is None:
        raise SystemExit("Chromium is not installed (Debian: apt-get install chromium).")
    with tempfile.TemporaryDirectory(prefix="admin-credits-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with (
            PostgresServer(folder) as server,
            Gunicorn(load_demo(server, datetime.now(UTC)), API_KEY_SECRET=DEMO_SECRET) as gunicorn,
            chromium() as browser,
            watched_page(
                browser,
                f"http://127.0.0.1:{gunicorn.port}",
                viewport={"width": 1120, "height": 660},
                device_scale_factor=1.5,
                timezone_id="UTC",
            ) as page,
        ):
            page.goto("/")
            page.get_by_label("API key of an administrator").fill(ADMIN_KEY)
            page.get_by_role("button", name="Show top spenders").click()
            page.locator(".share .bar").first.wait_for()
            page.mouse.move(0, 0)
            PICTURE.parent.mkdir(exist_ok=True)
            page.screenshot(path=PICTURE)


main()
