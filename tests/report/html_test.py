"""Tests for intriguing/report/{html,gallery}.py: the page's text; browser_test.py uses the page."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from tables_test import _TINY

from intriguing import report
from intriguing.errors import InputError
from intriguing.report import figures, html


class Page(HTMLParser):
    """Checks that tags nest; keeps the elements with their attributes, and the text in each tag."""

    _VOID = ("meta", "img", "br", "input")

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.text.setdefault(self.open[-1], []).append(data.strip())

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def test_report_is_one_page_that_escapes_and_needs_nothing_else(tmp_path):
    evil = "<script>alert('\"&')</script>"
    figures.filters(tmp_path / "f.png", np.eye(4), (2, 2), "Filters")
    matrix = report.Table(
        "m", evil, ("A", evil), {"A": [1, 0.5], evil: [None, 1]}, ("percent",) * 2
    )
    html.write_report(
        tmp_path, evil, [_TINY, matrix], [report.Picture(tmp_path / "f.png", evil)],
        {evil: evil, "seconds": "3"},
        claims=[report.Claim(evil, "5 of 6", False)], notice=f"Mind: {evil}",
    )  # fmt: skip
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.all("script")) == 1 and page.all("link") == []  # ours; evil's is text
    assert [link["href"] for link in page.all("a")] == ["f.png"]  # nothing else is there
    assert "--share" in page.text["style"][0]
    assert "url(" not in text and "@import" not in text and "http" not in text
    (image,) = page.all("img")
    assert image["src"].startswith("data:image/png;base64,iVBOR")
    assert image["alt"] == evil
    assert int(image["width"]) > 0
    assert {"charset": "utf-8"} in page.all("meta")
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert "does not hold" in page.text["b"] and f"Mind: {evil}" in page.text["p"]
    for tag in ("title", "h1", "caption", "figcaption", "dt", "dd"):
        assert evil in page.text[tag], tag
    assert {attrs["scope"] for attrs in page.all("th")} == {"col", "row"}
    assert len(page.all("caption")) == len(page.all("table")) == 2
    assert page.text["small"] == ["5 of 6", "20%", "0.14"]
    shares = [attrs["style"] for attrs in page.all("td") if "style" in attrs]
    assert shares == ["--share:100.0%", "--share:50.0%", "--share:100.0%"]
    assert re.search(r"the paper's figures \(MNIST, 28x28\)", text)


def test_report_without_its_figure(tmp_path):
    with pytest.raises(InputError, match=r"cannot read figure .*none\.png"):
        html.write_report(tmp_path, "", [], [report.Picture(tmp_path / "none.png", "")], {})
    assert not (tmp_path / "report.html").exists()


def test_links_are_to_what_is_there(tmp_path):
    report.write_tables(tmp_path, [_TINY])
    (tmp_path / "config.json").write_text("{}")
    html.write_report(tmp_path, "", [_TINY, _TINY._replace(name="not written")], [], {})
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    links = [link["href"] for link in page.all("a")]
    assert links == ["tables/tiny.csv", "config.json", "tables"]
    assert all((tmp_path / link).exists() for link in links)


def test_a_gallery_has_three_views_of_each_image(tmp_path):
    images = np.zeros((2, 4, 6, 3))
    adv = images.copy()
    adv[1, 0, 0, 0], adv[1, 1, 1, 1] = 0.004, 0.002
    tiles = report.compare(images, adv, ["a", "b"], ["c", "d"])
    assert tiles[0].captions == ("a", "difference × 1", "c")  # noqa: RUF001
    assert tiles[1].captions == ("b", "difference × 125", "d")  # noqa: RUF001
    np.testing.assert_allclose(tiles[1].views[1][0, 0, 0], 1)
    np.testing.assert_allclose(tiles[1].views[1][1, 1], [0.5, 0.75, 0.5])
    figures.filters(tmp_path / "f.png", np.eye(4), (2, 2), "Filters")
    html.write_report(tmp_path, "", [], [report.Picture(tmp_path / "f.png", "all", tiles)], {})
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))))
        for image in page.all("img")
    ]
    assert len(pictures) == 6 and {picture.shape for picture in pictures} == {(4, 6, 3)}
    np.testing.assert_array_equal(pictures[5], np.rint(255 * adv[1]))
    assert [image["alt"] for image in page.all("img")] == 2 * [*report.gallery.VIEWS]
