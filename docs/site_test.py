"""The built site in headless Chromium: make docs runs this after building docs/_build/html.

No page asks anybody for anything, none is wider than a phone, no link or picture is broken.
"""

from pathlib import Path

import pytest

SITE = Path(__file__).resolve().parent / "_build" / "html"
PAGES = sorted(path for path in SITE.rglob("*.html") if "_modules" not in path.parts)


def test_the_site_is_there():
    names = {path.relative_to(SITE).as_posix() for path in PAGES}
    assert names > {"index.html", "method.html", "api.html", "notebooks/paper.html"}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(SITE).as_posix())
def test_a_page(browser, page):
    asked, faults = [], []
    for width in (390, 1280):
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
        tab = context.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("requestfailed", lambda request: faults.append(request.url))
        tab.goto(page.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        broken = "image => image.complete && !image.naturalWidth && image.src"
        images = tab.locator("img").evaluate_all(f"all => all.map({broken}).filter(Boolean)")
        assert not images
        links = tab.locator("a[href]").evaluate_all("all => all.map(link => link.href)")
        context.close()
    assert not faults
    assert not [url for url in asked if not url.startswith(("file:", "data:"))]
    here = [link.partition("#")[0].partition("?")[0] for link in links if link.startswith("file:")]
    assert not [link for link in here if not Path(link.removeprefix("file://")).exists()]
