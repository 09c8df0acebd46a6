"""Tests for intriguing/attack/refine.py: against SciPy and the exact minimum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import scipy.optimize
from jax.tree_util import Partial

from intriguing import attack
from intriguing.attack import refine
from intriguing.attack.problem import Problem

PIXELS, CLASSES, NUM = 30, 6, 16
project = jax.jit(refine.project_linear)


@pytest.mark.parametrize("num_rows", [1, 2, 3, 5, 9])
def test_project_linear_against_slsqp(num_rows):
    rng = np.random.default_rng(num_rows)
    num_active = 0
    for _ in range(9):
        rows = rng.normal(size=(num_rows, 20))
        low, high = -rng.uniform(0, 0.6, size=20), rng.uniform(0, 0.6, size=20)
        low[:5], high[5:9] = 0.0, 0.0
        offsets = rows @ rng.uniform(low, high) + rng.uniform(0, 0.2, size=num_rows) - 0.1
        expected = scipy.optimize.minimize(
            lambda r: 0.5 * r @ r, np.zeros(20), jac=lambda r: r, method="SLSQP",
            bounds=list(zip(low, high, strict=True)), options={"ftol": 1e-12, "maxiter": 300},
            constraints={"type": "ineq", "fun": lambda r, a=rows, b=offsets: a @ r - b,
                         "jac": lambda r, a=rows: a},
        )  # fmt: skip
        if not expected.success:
            continue
        r = np.asarray(project(*(np.float32(a) for a in (rows, offsets, low, high))))
        assert (r >= np.float32(low)).all() and (r <= np.float32(high)).all()
        assert (rows @ r - offsets).min() > -1e-2
        assert np.linalg.norm(r) == pytest.approx(np.linalg.norm(expected.x), rel=0.02, abs=1e-3)
        num_active += np.sum((expected.x == low) | (expected.x == high))
    assert num_active > 10


def linear(params, images):
    return images @ params[0] + params[1][None]


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(NUM, PIXELS))
    images = np.where(rng.uniform(size=images.shape) < 0.4, 0.0, images).astype(np.float32)
    params = tuple(np.float32(rng.normal(size=s)) for s in ((PIXELS, CLASSES), CLASSES))
    targets = np.asarray(linear(params, images)).argmin(axis=1)
    return params, images, targets


@functools.partial(jax.jit, static_argnames=("num_margins",))
def refined(params, images, targets, adv, num_margins):
    return refine.refine(
        Partial(linear, params), Problem(images, jnp.zeros_like(adv), jnp.ones_like(adv), targets),
        adv, num_steps=4, num_margins=num_margins,
    )  # fmt: skip


@pytest.mark.parametrize(("num_margins", "most"), [(5, 1.005), (2, np.inf)])
def test_refine_reaches_the_exact_minimum(problem, num_margins, most):
    params, images, targets = problem
    exact = np.array([
        oracle.exact_minimum(*params, image, target)
        for image, target in zip(images, targets, strict=True)
    ])  # fmt: skip
    # Start: beyond the exact minimum, towards a corner that the target likes.
    adv = np.array([
        oracle.exact_minimum(params[0], params[1] + 0.5 * np.eye(CLASSES)[t] * -1, x, t)
        for x, t in zip(images, targets, strict=True)
    ], np.float32)  # fmt: skip
    adv[0] = images[0]  # not adversarial at input
    found, margins = (np.asarray(a) for a in refined(params, images, targets, adv, num_margins))
    assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all()
    norms, before, least = (np.linalg.norm(a - images, axis=1) for a in (found, adv, exact))
    assert (norms[1:] <= before[1:] * (1 + 1e-5)).all()
    assert (np.asarray(linear(params, found)).argmax(axis=1) == targets)[1:].all()
    assert (margins[1:] > 0).all()
    assert norms[1:].mean() <= most * least[1:].mean()
    assert norms[1:].mean() < before[1:].mean()


def sigmoid_net(params, images):
    return jax.nn.sigmoid(images @ params[0]) @ params[1]


def test_refining_makes_no_image_worse(problem):
    _, images, _ = problem
    rng = np.random.default_rng(3)
    params = tuple(np.float32(rng.normal(size=s)) for s in ((PIXELS, 12), (12, CLASSES)))
    labels = np.asarray(sigmoid_net(params, images)).argmax(axis=1)
    targets = np.array([rng.choice(labels[labels != label]) for label in labels])
    rough, fine = (  # each target is the class of another image: a point of the box that has it
        attack.minimal_perturbation(Partial(sigmoid_net, params), images, targets, refine=r)
        for r in (False, True)
    )
    assert rough.success.all() and fine.success.all()
    assert (fine.l2_norm <= rough.l2_norm * (1 + 1e-5)).all()
    assert fine.l2_norm.mean() < rough.l2_norm.mean()
