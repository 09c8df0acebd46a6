"""Headless Chromium for tests; `INTRIGUING_BROWSER` names the program, if its name is another."""

import os
import shutil

import pytest

PROGRAM = os.environ.get("INTRIGUING_BROWSER") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def browser():
    """A browser of Playwright's, started once for a file of tests."""
    sync_api = pytest.importorskip("playwright.sync_api")
    if PROGRAM is None:
        pytest.skip("no Chromium on the PATH, and INTRIGUING_BROWSER does not name one")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield started
        started.close()
