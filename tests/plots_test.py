"""Tests for intriguing/plots.py: what the figures show, not how they look."""

import io

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_up import RESULT, make_result

from intriguing import attack, plots
from intriguing.errors import InputError

matplotlib.use("Agg")


@pytest.mark.parametrize("shape", [(4, 6, 6), (4, 6, 6, 1), (4, 36), (4, 6, 6, 3)])
def test_show_draws_the_images(shape):
    rng = np.random.default_rng(0)
    images = rng.uniform(size=shape).astype(np.float32)
    result = RESULT._replace(adv_images=images + 0.01 * rng.uniform(size=shape))

    def logits_fn(batch):  # 90% an owl where the image is as it was, else an ostrich
        near = [image for image in images if np.allclose(batch, image, atol=0.02)]
        is_old = (batch == near[0]).all()
        return np.log([[0.9, 0.1]]) * (1 if is_old else -1)

    figure = plots.show(images, result, logits_fn=logits_fn, class_names=("owl, bird", "ostrich"))
    cells = np.reshape(figure.axes, (3, 3))  # the successes, three pictures each
    for cell, image in zip(cells[:, 0], images, strict=False):
        shown = np.asarray(cell.images[0].get_array())
        np.testing.assert_allclose(shown.ravel(), image.ravel(), atol=1e-6)
    assert cells[0, 0].get_xlabel() == "owl, 90%" and cells[0, 2].get_xlabel() == "ostrich, 90%"
    difference = np.asarray(cells[1, 1].images[0].get_array())
    assert difference.max() == pytest.approx(1) and "L2 1" in cells[1, 1].get_xlabel()
    factor = 0.5 / (result.adv_images - images)[result.success][1].max()
    assert cells[1, 1].get_xlabel().startswith(f"x {factor:.3g},")
    figure.savefig(io.BytesIO(), format="png")
    assert not plt.get_fignums()  # none is left open


def test_show_refuses_what_cannot_be_shown():
    with pytest.raises(InputError, match="shape"):
        plots.show(np.zeros((4, 7)), RESULT)
    with pytest.raises(InputError, match="no image was made"):
        plots.show(np.zeros((1, 2, 2)), make_result([np.inf]))
    with pytest.raises(InputError, match="the result's"):
        plots.show(np.zeros((4, 3, 3)), RESULT)


def test_curves_show_their_numbers():
    radii = np.linspace(0, 3, 7)
    curve = attack.robustness_curve(RESULT, radii, certified_radius=[0, 0.5, 0.5, 1])
    (axes,) = plots.robustness_curve({"net": curve, "other": curve}).axes
    assert [line.get_label() for line in axes.lines] == [
        "net attacked", "net certified", "other attacked", "other certified"
    ]  # fmt: skip
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), curve.certified)


def test_distortions_never_count_failures():
    (axes,) = plots.distortions({"all": RESULT, "none": make_result([np.inf])}).axes
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0, 0, 1, 2])
    assert axes.lines[0].get_ydata()[-1] == 0.75
    assert axes.lines[1].get_label() == "none: none reached"
