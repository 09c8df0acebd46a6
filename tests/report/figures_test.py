"""Tests for intriguing/report/figures.py and charts.py"""

import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from intriguing.errors import InputError
from intriguing.report import charts, figures


def _pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def _find(pixels, color):
    """Bounding box (top, bottom, left, right) of the pixels of one colour."""
    rows, columns = np.nonzero((pixels == color).all(axis=-1))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_image_grid_shows_each_pixel_unchanged_and_enlarged(tmp_path):
    image = np.zeros((1, 4, 4, 3))
    image[..., 0] = 1
    image[0, 0, 3] = [0, 1, 0]  # top right
    figures.image_grid(
        tmp_path / "a.png",
        [figures.ImageGroup("", [figures.ImageRow("", image)])],
        "",
        cell_pixels=40,
    )
    pixels = _pixels(tmp_path / "a.png")
    top, bottom, left, right = _find(pixels, [255, 0, 0])
    assert (bottom - top, right - left) == (40, 40)
    assert _find(pixels, [0, 255, 0]) == (top, top + 10, right - 10, right)
    assert (pixels[:top] == 255).all() and (pixels[bottom:] == 255).all()


def test_image_grid_rows_follow_each_other_and_labels_make_room(tmp_path):
    def draw(label, captions):
        red, green = np.zeros((2, 3, 2, 2, 3))
        red[..., 0] = green[..., 1] = 1
        rows = [figures.ImageRow(label, red, captions), figures.ImageRow("", green)]
        path = tmp_path / "a.png"
        figures.image_grid(path, [figures.ImageGroup("Heading", rows)], "Title", cell_pixels=20)
        pixels = _pixels(path)
        return _find(pixels, [255, 0, 0]), _find(pixels, [0, 255, 0]), pixels.shape

    red, green, shape = draw("", None)
    assert red[1] < green[0] and red[2:] == green[2:]
    assert red[3] - red[2] > 3 * 20
    wide_red, wide_green, wide_shape = draw("a long label", ["one", "two", "a much longer one"])
    assert wide_red[2] > red[2] + 50 and wide_shape[1] > shape[1] + 50
    assert wide_green[0] - wide_red[1] > green[0] - red[1] + 10


def test_a_long_title_is_not_cut(tmp_path):
    group = figures.ImageGroup("", [figures.ImageRow("", np.zeros((1, 4, 4, 1)))])
    for title in ("A title that is much wider than the only image", "W" * 30):
        figures.image_grid(tmp_path / "a.png", [group], title)
        right_edge = _pixels(tmp_path / "a.png")[:, -figures.MARGIN // 2 :]
        assert (right_edge == 255).all()


def test_image_grid_grey_and_out_of_range(tmp_path):
    image = np.full((1, 2, 2, 1), 0.2)
    image[0, 0, 0], image[0, 1, 1] = -3, 7
    group = figures.ImageGroup("", [figures.ImageRow("", image)])
    figures.image_grid(tmp_path / "a.png", [group], "", cell_pixels=10)
    pixels = _pixels(tmp_path / "a.png")
    assert _find(pixels, [0, 0, 0])[1] - _find(pixels, [0, 0, 0])[0] == 5
    assert (pixels == 51).all(axis=-1).sum() == 2 * 25


def test_image_grid_wrong_input(tmp_path):
    for images in (np.ones((2, 4, 4)), np.ones((2, 4, 4, 2))):
        with pytest.raises(ValueError, match=r"images must be \(n, height, width, 1 or 3\)"):
            figures.image_grid(
                tmp_path / "a", [figures.ImageGroup("", [figures.ImageRow("", images)])], ""
            )
    row = figures.ImageRow("", np.ones((2, 4, 4, 1)), ["only one"])
    with pytest.raises(ValueError, match="zip"):
        figures.image_grid(tmp_path / "a.png", [figures.ImageGroup("", [row])], "")
    assert not (tmp_path / "a.png").exists()


def test_filters_are_symmetric_about_grey(tmp_path):
    weights = np.zeros((4, 3))  # the third unit is dead
    weights[0, 0], weights[3, 0] = 2, -1
    weights[1, 1] = -0.001
    figures.filters(tmp_path / "f.png", weights, (2, 2), "")
    pixels = _pixels(tmp_path / "f.png")
    quarter = 28 * 28
    white_page = pixels.shape[0] * pixels.shape[1] - 3 * 4 * quarter
    assert (pixels == 255).all(axis=-1).sum() == white_page + quarter
    assert (pixels == 0).all(axis=-1).sum() == quarter
    assert (pixels == 64).all(axis=-1).sum() == quarter
    assert (pixels == 128).all(axis=-1).sum() == 9 * quarter


def test_distortion_histogram_leaves_failures_out(tmp_path):
    rng = np.random.default_rng(0)
    found = {"A": rng.random(50), "B": rng.random(50) / 2}
    failed = {"A": found["A"], "B": np.full(50, np.nan)}
    charts.distortion_histogram(tmp_path / "a.png", found, "Title", paper_means={"A": 0.5})
    charts.distortion_histogram(tmp_path / "b.png", failed, "Title")
    assert _pixels(tmp_path / "a.png").shape == (330, 960, 3)
    assert not np.array_equal(_pixels(tmp_path / "a.png"), _pixels(tmp_path / "b.png"))


def test_distortion_histogram_marks_the_mean_where_it_is(tmp_path):
    def line_position(values):
        charts.distortion_histogram(tmp_path / "a.png", {"A": np.array(values)}, "")
        pixels = _pixels(tmp_path / "a.png")
        return (pixels.max(axis=-1) < 110).sum(axis=0).argmax()

    # The axis runs from 0 to 1.02 both times: the mean moves by half of it over 1.02.
    moved = line_position([0.5, 0.5, 1, 1]) - line_position([0, 0, 0, 1])
    width = 960 * 0.9
    assert 0.4 * width < moved < 0.55 * width


def _draw_curves(path, lines, num_panels=2):
    panels = {f"panel {i}": lines for i in range(num_panels)}
    charts.curves(path, [0, 0.5, 1], panels, "Title", "stddev", "error")
    return _pixels(path)


def _color(name):
    return [int(name[i : i + 2], 16) for i in (1, 3, 5)]


def test_curves_are_drawn_in_their_colours(tmp_path):
    rising, flat = charts.Line("rising", [0, 0.5, 1]), charts.Line("flat", [0.5, 0.5, 0.5])
    pixels = _draw_curves(tmp_path / "a.png", [rising, flat])
    assert pixels.shape == (420, 2 * 420, 3)
    assert _draw_curves(tmp_path / "b.png", [rising], num_panels=1).shape == (420, 420, 3)
    for half in (pixels[:, :420], pixels[:, 420:]):  # the same colours in each panel
        top, bottom, left, right = _find(half, _color(charts._COLORS[0]))
        assert bottom - top > 200 and right - left > 250
        assert (half == _color(charts._COLORS[1])).all(axis=-1).any()
    control = flat._replace(dashed=True)
    dashed = _draw_curves(tmp_path / "c.png", [rising, control])
    assert not (dashed == _color(charts._COLORS[1])).all(axis=-1).any()
    assert (dashed == _color(figures.QUIET)).all(axis=-1).any()


def test_a_spread_is_a_band_around_its_curve(tmp_path):
    flat = charts.Line("flat", [0.5, 0.5, 0.5])

    def coloured_rows(spread):
        path = tmp_path / "a.png"
        pixels = _draw_curves(path, [flat._replace(spread=spread)], num_panels=1)
        return (np.ptp(pixels.astype(int), axis=-1) > 12).any(axis=1).sum()

    narrow, wide = coloured_rows([0.1] * 3), coloured_rows([0.2] * 3)
    axis = (wide - narrow) / 0.2  # pixels that the axis has from 0 to 1
    assert 200 < axis < 400
    assert coloured_rows(None) < narrow - 0.1 * axis


def _draw_all(folder):
    rng = np.random.default_rng(0)
    images = rng.random((2, 5, 5, 1))
    row = figures.ImageRow("row", images, ["a", "b"])
    figures.image_grid(folder / "grid.png", [figures.ImageGroup("group", [row])], "Title")
    figures.filters(folder / "filters.png", rng.normal(size=(12, 5)), (2, 2, 3), "Title")
    charts.distortion_histogram(folder / "histogram.png", {"A": rng.random(9)}, "Title")
    lines = [
        charts.Line("curve", rng.random(3)),
        charts.Line("band", rng.random(3), spread=rng.random(3) / 9),
        charts.Line("control", rng.random(3), spread=rng.random(3) / 9, dashed=True),
        charts.Line("", rng.random(3), dashed=True),
    ]
    _draw_curves(folder / "curves.png", lines)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_same_data_same_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = _draw_all(tmp_path / "a")
    assert len(first) == 4
    assert first == _draw_all(tmp_path / "b")


def test_pyplot_is_never_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it now raises
    runpy.run_path(figures.__file__)
    assert len(_draw_all(tmp_path)) == 4


def test_unwritable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        figures.filters(tmp_path / "file" / "f.png", np.eye(4), (2, 2), "")
