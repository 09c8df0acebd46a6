"""The solver for one value of c: stock jaxopt under vmap, ours, and SciPy image by image.

    INTRIGUING_DATA=... python -m benchmarks.solver [--num_images=512] [--num_scipy=16]

Every side minimises |r| + loss / c from the same start with the same c. The floor is what a loop
costs that does nothing but evaluate: as many times as the slowest image needs.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from flax import linen as nn
from scipy import optimize

from benchmarks import common
from intriguing import models, sharding
from intriguing.attack.objective import penalty_objective
from intriguing.solver import box_lbfgs

_NUM_IMAGES = flags.DEFINE_integer("num_images", 512, "images of the MNIST problem")
_NUM_SCIPY = flags.DEFINE_integer("num_scipy", 16, "images that SciPy solves")
_MAXITER = flags.DEFINE_integer("maxiter", 100, "iterations per image")
_WORKDIR = flags.DEFINE_string("workdir", "runs/benchmarks", "where the trained net is kept")
TOL, RTOL = 1e-3, 1e-6


class ConvNet(nn.Module):
    """Two strided convolutions and a dense layer, for 64x64x3 images; random weights."""

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(16, (5, 5), strides=2)(images))
        x = nn.relu(nn.Conv(32, (5, 5), strides=2)(x))
        return nn.Dense(10)(x.reshape(len(x), -1)), {}


def conv_problem(num_images: int):
    """Random images with 30% of the pixels at 0: (logits_fn, images, targets)."""
    rng = np.random.default_rng(0)
    images = rng.uniform(size=(num_images, 64, 64, 3)).astype(np.float32)
    images[rng.uniform(size=images.shape) < 0.3] = 0
    model = ConvNet()
    variables = model.init(jax.random.key(0), images[:1])
    return models.logits_fn(model, variables), images, rng.integers(0, 10, num_images)


@functools.partial(jax.jit, static_argnames=("solver", "maxiter"))
def solve(logits_fn, images, labels, c, solver, maxiter):
    """One vmapped solve of every image at its c."""

    def one(image, label, c):
        objective = penalty_objective(logits_fn, image, label, c)
        return box_lbfgs.minimize_box(
            objective, image, 0.0, 1.0, solver=solver, maxiter=maxiter, tol=TOL, rtol=RTOL,
            history_size=5,
        )  # fmt: skip

    return jax.vmap(one)(images, labels, c)


@functools.partial(jax.jit, static_argnames="num_evals")
def evaluate_in_a_loop(logits_fn, images, labels, c, num_evals):
    """`num_evals` values and gradients of all images, one after the other."""

    def body(_, z):
        fns = jax.vmap(lambda z, *args: penalty_objective(logits_fn, *args)(z))
        _, grad = fns(z, images, labels, c)
        return jnp.clip(z - 1e-3 * grad, 0, 1)

    return jax.lax.fori_loop(0, num_evals, body, jnp.asarray(images))


def compare(title: str, logits_fn, images, labels, num_scipy: int, maxiter: int) -> None:
    """Measures every side on one problem and prints the table."""
    _, grad, _ = common.evaluate_all(logits_fn, images, labels, mesh=sharding.make_mesh(1))
    c = 0.3 * jnp.linalg.norm(grad.reshape(len(images), -1), axis=-1)
    floor_of = functools.partial(evaluate_in_a_loop, logits_fn, images, labels, c, num_evals=20)
    seconds, rows = common.seconds_of(floor_of)[1] / 20, []
    for solver in ("batched", "jaxopt"):
        run = functools.partial(solve, logits_fn, images, labels, c, solver, maxiter)
        compiling, took, solution = common.seconds_of(run, repeats=2 if solver == "batched" else 1)
        evals = np.asarray(solution.num_evals)
        value = np.asarray(solution.value)
        floor = evals.max() * seconds
        rows.append([
            solver, len(images), f"{value.mean():.5f}", f"{evals.mean():.1f}", evals.max(),
            f"{took:.2f}", f"{floor:.2f}", f"{took / floor:.1f}", f"{compiling:.1f}",
        ])  # fmt: skip
        if solver == "batched":
            ours = value
    worst = float(np.max(ours - value))
    values, evals, took = scipy_solve(logits_fn, images[:num_scipy], labels, c, maxiter)
    some = f"first {num_scipy}"
    rows.append([
        f"SciPy, {some}", num_scipy, f"{values.mean():.5f}", f"{evals.mean():.1f}", evals.max(),
        f"{took:.2f}", "", "", "",
    ])  # fmt: skip
    first = ours[:num_scipy].mean()
    rows.append([f"batched, {some}", num_scipy, f"{first:.5f}", *[""] * 6])
    columns = ["solver", "images", "mean objective", "mean evals", "max evals", "seconds",
               "floor: max evals x one evaluation", "seconds / floor", "compilation"]  # fmt: skip
    common.print_table(title, columns, rows)
    print(f"\nWorst image, batched minus jaxopt: {worst:+.5f}; one evaluation of "
          f"{len(images)} images in a loop: {1e3 * seconds:.2f} ms")  # fmt: skip


def scipy_solve(logits_fn, images, labels, c, maxiter):
    """SciPy's L-BFGS-B in float64, the network in float32: (values, evaluations, seconds)."""
    objective = jax.jit(lambda z, image, label, c: penalty_objective(logits_fn, image, label, c)(z))
    values, evals = [], []
    jax.block_until_ready(objective(images[0], images[0], labels[0], c[0]))

    def run():
        for image, label, weight in zip(images, labels, c, strict=False):

            def fun(x, image=image, label=label, weight=weight):
                z = x.astype(np.float32).reshape(image.shape)
                value, grad = objective(z, image, label, weight)
                return float(value), np.asarray(grad, np.float64).ravel()

            found = optimize.minimize(
                fun, image.ravel().astype(np.float64), jac=True, method="L-BFGS-B",
                bounds=optimize.Bounds(0, 1), options={"maxiter": maxiter, "maxcor": 5},
            )  # fmt: skip
            values.append(found.fun)
            evals.append(found.nfev)

    _, took, _ = common.seconds_of(run, repeats=1)
    half = len(images)
    return np.array(values[:half]), np.array(evals[:half]), took


def main(argv) -> None:
    del argv
    problem = common.mnist_problem(_NUM_IMAGES.value, Path(_WORKDIR.value))
    compare("MNIST FC100-100-10, n = 784", *problem, _NUM_SCIPY.value, _MAXITER.value)
    problem = conv_problem(32)
    compare("Convolutional net, n = 12,288", *problem, min(4, _NUM_SCIPY.value), _MAXITER.value)


if __name__ == "__main__":
    app.run(main)
