"""Tests for intriguing/attack/saved.py"""

import numpy as np
import pytest
from made_up import RESULT

from intriguing import attack
from intriguing.errors import InputError


def test_saved_results_come_back(tmp_path):
    attack.save(tmp_path / "deep" / "result.npz", RESULT)
    found = attack.load(tmp_path / "deep" / "result.npz")
    for name, array in RESULT._asdict().items():
        np.testing.assert_array_equal(getattr(found, name), array)
        assert getattr(found, name).dtype == array.dtype


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_what_is_no_result_is_refused(tmp_path, content):
    path = tmp_path / "result.npz"
    if content is None:
        np.savez(path, success=np.ones(3))
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match="no result of an attack"):
        attack.load(path)
    with pytest.raises(InputError, match="cannot read"):
        attack.load(tmp_path / "gone.npz")


def test_a_pytree_is_refused(tmp_path):
    with pytest.raises(InputError, match="pytree"):
        attack.save(tmp_path / "x.npz", RESULT._replace(adv_images={"a": np.zeros(4)}))


def test_curve_counts_images():
    curve = attack.robustness_curve(RESULT, [0, 0.5, 1, 1.5, 2, 9])
    np.testing.assert_array_equal(curve.attacked, [0.75, 0.75, 0.5, 0.5, 0.25, 0.25])
    assert curve.certified is None


def test_curve_with_certificates_never_crosses():
    radius = np.array([0.7, 0.9, 0.1, 3.0])
    curve = attack.robustness_curve(RESULT, np.linspace(0, 4, 41), certified_radius=radius)
    assert (curve.certified <= curve.attacked).all()
    # The first image is wrong: what is certified of it is no accuracy.
    np.testing.assert_allclose(curve.certified[[0, 5, 20, 35]], [0.75, 0.5, 0.25, 0])


def test_curve_knows_what_is_right():
    curve = attack.robustness_curve(RESULT, 0, is_right=[True, True, False, True])
    np.testing.assert_array_equal(curve.attacked, [0.5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radii": [-1]}, "0 or more"),
        ({"radii": [np.nan]}, "0 or more"),
        ({"radii": [1], "certified_radius": [0, 1.5, 0, 0]}, "image 1 has certificate 1.5"),
        ({"radii": [1], "certified_radius": [0, np.nan, 0, 0]}, "certified_radius needs"),
        ({"radii": [1], "is_right": [True]}, "is_right needs"),
    ],
)
def test_curves_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        attack.robustness_curve(RESULT, **options)
