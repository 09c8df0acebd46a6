"""report.html in Chromium, as its reader has it: on phone and desk, in light and dark, offline."""

import numpy as np
import pytest

from intriguing import report
from intriguing.report import figures, html

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
NETS = tuple(f"network {i} of seven" for i in range(7))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A report with a matrix too wide for a phone, a gallery, a chart, and long words."""
    folder, rng = tmp_path_factory.mktemp("run"), np.random.default_rng(0)
    cells = {name: list(rng.uniform(size=7)) for name in NETS}
    matrix = report.Table("transfer", "Who fools whom", NETS, cells, ("percent",) * 7, paper=cells,
                          paper_columns=NETS)  # fmt: skip
    numbers = {"a": [2.0], "b": [None], "c": [10.0], "d": [float("inf")]}
    small = report.Table("small", "Small", ("av_distortion",), numbers, ("number",), note="A note.")
    report.write_tables(folder, [matrix, small])
    images = rng.uniform(size=(5, 8, 8, 1))
    figures.filters(folder / "grid.png", images[0, :, :, 0], (2, 4), "Grid")
    figures.image_grid(
        folder / "wide.png",
        [figures.ImageGroup("", [figures.ImageRow("a row", rng.uniform(size=(12, 8, 8, 1)))])],
        "A wide figure",
    )
    tiles = report.compare(
        images, 1 - images, [f"was {i}" for i in range(5)], [f"is {i}" for i in range(5)]
    )
    shown = [report.Picture(folder / "grid.png", "A gallery.", tiles),
             report.Picture(folder / "wide.png", "A wide figure.")]  # fmt: skip
    facts = {"command": "python launch.py --config=" + 200 * "x", "seed": 0}
    html.write_report(folder, "A report", [matrix, small], shown, facts, notice="Mind this.")
    return (folder / "report.html").as_uri()


@pytest.fixture
def open_page(browser, address):
    """Opens the report; the test fails if it asks for anything but itself, or has an error."""
    contexts, faults = [], []

    def open_at(viewport, **how):
        context = browser.new_context(viewport=viewport, offline=True, **how)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.extend(
            [request.url] if not request.url.startswith((address, "data:")) else []))  # fmt: skip
        page.goto(address)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert not faults


def width_of(page) -> int:
    return page.evaluate("document.documentElement.scrollWidth")


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_nothing_is_wider_than_the_page_and_every_number_can_be_seen(open_page, viewport):
    page = open_page(viewport, has_touch=viewport is PHONE)
    assert width_of(page) == viewport["width"]
    cells = page.locator("tbody td, tbody th, img:visible, figcaption, caption, dd").all()
    assert len(cells) > 70
    for cell in cells:
        box = cell.bounding_box()
        if cell.is_visible():
            right = box["x"] + box["width"]
            assert box["width"] > 0 and box["x"] >= 0 and right <= viewport["width"] + 0.5


def test_on_a_phone_a_number_has_the_name_of_its_column(open_page):
    page = open_page(PHONE)
    name = page.evaluate(
        "getComputedStyle(document.querySelector('tbody td:nth-of-type(3)'), '::before').content"
    )
    assert name == f'"{NETS[2]}"'
    page = open_page(DESK)
    assert page.evaluate(
        "getComputedStyle(document.querySelector('tbody td'), '::before').content"
    ) in ("none", "normal")


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_a_heading_sorts_its_column_and_gives_the_order_back(open_page, viewport):
    page = open_page(viewport)
    table = page.locator("table").nth(1)
    heading = table.get_by_role("button", name="av. distortion")

    def rows():
        return [row[0] for row in table.locator("tbody th").all_inner_texts()]

    orders = [rows()]
    for _ in range(3):
        heading.click()
        orders.append(rows())
    assert orders == [list("abcd"), list("dcab"), list("acdb"), list("abcd")]
    heading.focus()
    page.keyboard.press("Enter")
    assert rows() == list("dcab")
    assert table.locator("thead th").get_attribute("aria-sort") == "descending"


def captions(page) -> list[str]:
    return page.locator(".tile").evaluate_all(
        "tiles => tiles.map(tile => Array.from(tile.children)"
        ".find(view => getComputedStyle(view).visibility == 'visible').innerText)"
    )


def test_views_by_pointer_press_keys_and_buttons(open_page):
    page = open_page(DESK)
    assert captions(page) == [f"was {i}" for i in range(5)]
    tile = page.locator(".tile").nth(2)
    tile.hover()
    assert captions(page) == ["was 0", "was 1", "is 2", "was 3", "was 4"]
    tile.click()
    assert captions(page)[2] == "was 2"
    tile.click()
    assert captions(page)[2].startswith("difference ×")  # noqa: RUF001
    page.mouse.move(0, 0)
    assert captions(page)[2] == "was 2"
    tile.focus()
    page.keyboard.press("ArrowLeft")
    assert captions(page) == ["was 0", "was 1", "is 2", "was 3", "was 4"]
    page.keyboard.press("Enter")
    assert captions(page)[2] == "was 2"
    page.get_by_label("adversarial").check()
    assert captions(page) == [f"is {i}" for i in range(5)]
    page.keyboard.press("ArrowLeft")  # of the radio buttons: the browser's own
    assert all(caption.startswith("difference") for caption in captions(page))


def test_views_and_figures_by_touch(open_page):
    page = open_page(PHONE, has_touch=True)
    page.locator(".tile").nth(1).tap()
    page.locator(".tile").nth(1).tap()
    assert captions(page)[1] == "is 1"
    zoom = page.locator(".zoom")
    before = zoom.locator("img").bounding_box()["width"]
    zoom.tap()
    assert zoom.locator("img").bounding_box()["width"] > 2 * before
    assert width_of(page) == PHONE["width"]  # it scrolls within its place
    zoom.tap()
    assert zoom.locator("img").bounding_box()["width"] == before


def luminance(rgb: str) -> float:
    values = np.array([float(part) for part in rgb[rgb.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_words_can_be_read(open_page, scheme):
    """WCAG's contrast of 4.5 between words and page."""
    page = open_page(DESK, color_scheme=scheme)
    ground = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (ground < 0.1) == (scheme == "dark")
    for selector in ("h1", "p", "figcaption", "a", "thead button", "td", "dt", "caption"):
        color = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).color")
        low, high = sorted((luminance(color), ground))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (selector, color)
