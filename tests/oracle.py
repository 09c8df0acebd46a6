"""Exact answers, in float64 and without JAX, that the tests compare the library with."""

import numpy as np
import scipy.optimize

INFEASIBLE = 1e7  # multipliers beyond this mean that no point of the box has the target class


def exact_minimum(weights, biases, image, target, lower=0.0, upper=1.0):
    """Returns D(x, l) of a softmax regression: the nearest point of the box with class `target`.

        min |z - x|^2 / 2  subject to  (w_l - w_k) . z + b_l - b_k >= 0 for all k,
                                       lower <= z <= upper

    is a convex QP, solved through its dual: one multiplier mu_k >= 0 per wrong class,
    z(mu) = clip(x + A^T mu), and the gradient of the dual is -(A z + d).

    Args:
      weights: (pixels, classes); biases: (classes,).
      image: (pixels,); target: the class l; lower, upper: scalars or (pixels,).

    Raises:
      ValueError: no point of the box has the class.
    """
    weights, biases, x = (np.asarray(a, np.float64) for a in (weights, biases, image))
    others = np.arange(len(biases)) != target
    a = (weights[:, [target]] - weights[:, others]).T
    d = biases[target] - biases[others]
    reachable = np.where(a > 0, a * upper, a * lower).sum(axis=1) + d
    if (reachable < 0).any():
        raise ValueError("no point of the box has the target class")

    def primal(mu):
        return np.clip(x + a.T @ mu, lower, upper)

    def negative_dual(mu):
        z = primal(mu)
        margins = a @ z + d
        return mu @ margins - 0.5 * np.sum((z - x) ** 2), margins

    def residual(mu):  # 0 exactly where mu is optimal
        return np.abs(np.minimum(mu, a @ primal(mu) + d)).max()

    mu = scipy.optimize.minimize(
        negative_dual, np.zeros(len(a)), jac=True, method="L-BFGS-B",
        bounds=[(0, INFEASIBLE)] * len(a),
        options={"maxiter": 10000, "maxfun": 100000, "ftol": 1e-16, "gtol": 1e-12},
    ).x  # fmt: skip
    for _ in range(50):  # polish: semi-smooth Newton on min(mu, margins) = 0
        z = x + a.T @ mu
        free = (z > lower) & (z < upper)
        margins = a @ primal(mu) + d
        active = mu > margins
        if not active.any() or residual(mu) < 1e-14:
            break
        hessian = (a[active] * free) @ a[active].T
        step = np.where(active, 0.0, -mu)
        step[active] = np.linalg.lstsq(
            hessian, -margins[active] - (a[active] * free) @ a[~active].T @ step[~active],
            rcond=None,
        )[0]  # fmt: skip
        lengths = 0.5 ** np.arange(20)
        trials = [np.maximum(mu + length * step, 0.0) for length in lengths]
        best = min(trials, key=residual)
        if residual(best) >= residual(mu):
            break
        mu = best
    z = primal(mu)
    margins = a @ z + d
    scale = 1.0 + np.abs(d).max()
    if mu.max() > INFEASIBLE / 2:
        raise ValueError("no point of the box has the target class")
    assert margins.min() > -1e-7 * scale, f"oracle: infeasible by {-margins.min()}"
    assert residual(mu) < 1e-7 * scale, f"oracle: KKT residual {residual(mu)}"
    gap = mu @ margins  # primal minus dual
    assert abs(gap) < 1e-7 * (1.0 + np.sum((z - x) ** 2)), f"oracle: duality gap {gap}"
    return z


def minimize_box(value_and_grad, x0, lower, upper):
    """SciPy's L-BFGS-B to the end of float64: returns (x, value) for flat arrays."""
    found = scipy.optimize.minimize(
        value_and_grad, np.asarray(x0, np.float64), jac=True, method="L-BFGS-B",
        bounds=list(zip(np.broadcast_to(lower, x0.shape), np.broadcast_to(upper, x0.shape),
                        strict=True)),
        options={"maxiter": 20000, "maxfun": 200000, "ftol": 1e-15, "gtol": 1e-10, "maxcor": 20},
    )  # fmt: skip
    return found.x, found.fun
