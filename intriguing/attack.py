"""Minimal adversarial perturbations by the penalty method (the paper's section 4.1).

    D(x, l) = x + r,  r = argmin |r|_2  subject to  f(x + r) = l,  x + r in [lower, upper]

is approximated by minimising `c |r| + loss(x + r, l)` in the box for several c, and keeping the
smallest r that reaches the class l.
"""

import enum
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from intriguing import box_lbfgs, penalty_search, predict, sharding
from intriguing.errors import InputError
from intriguing.metrics import distortion, l2_norm
from intriguing.targets import choose_targets

SOLVERS = ("jaxopt",)


class AttackStatus(enum.IntEnum):
    """How the attack on one image ended."""

    REACHED = 0  # the target class was reached
    ALREADY_THERE = 1  # the clean image is classified as the target: r = 0
    NOT_REACHED = 2  # no point that was seen is classified as the target
    NON_FINITE = 3  # not reached, and the model gave NaN or infinity


class AttackResult(NamedTuple):
    """One row per image; rows of images that failed hold the clean image and infinite norms.

    Fields:
      adv_images: (batch, ...) inside the box.
      success: (batch,) bool, judged by a fresh forward pass on `adv_images`.
      distortion: (batch,) sqrt(mean((adv_images - images)^2)); infinity where not `success`, so
        that a mean that forgets to leave failures out cannot go unnoticed.
      l2_norm: (batch,) Euclidean norm of the perturbation; infinity where not `success`.
      penalty_weight: (batch,) the c that gave the perturbation; 0 if none did or none was needed.
      num_evals: (batch,) int32, evaluations of the loss and its gradient.
      status: (batch,) int32, an `AttackStatus`.
    """

    adv_images: np.ndarray
    success: np.ndarray
    distortion: np.ndarray
    l2_norm: np.ndarray
    penalty_weight: np.ndarray
    num_evals: np.ndarray
    status: np.ndarray


class _Best(NamedTuple):
    """The smallest success so far, for one image; norm is infinity while there is none."""

    adv_image: jax.Array
    norm: jax.Array
    penalty_weight: jax.Array


def safe_norm(r: jax.Array) -> jax.Array:
    """Euclidean norm whose gradient at r = 0 is 0, where that of `jnp.linalg.norm` is NaN."""
    squared = jnp.sum(r * r)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def penalty_objective(logits_fn, image, target_label, penalty_weight, squared_norm=False):
    """The function of z = x + r that is minimised: |r| + loss(z, l) / c, for one image.

    The paper's `c |r| + loss` divided by c: the same minimiser, but a scale that float32 can
    resolve for every c, so that one tolerance serves for all.
    """

    def objective(z):
        logits = logits_fn(z[None])[0]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, target_label)
        norm = safe_norm(z - image)
        return (norm**2 if squared_norm else norm) + loss / penalty_weight

    return objective


def _first_penalty(logits_fn, image, target_label):
    """Half the norm of the loss gradient at x: about the c at which two classes draw level.

    Between two classes the loss is log(1 + exp(-margin)), whose gradient is half that of the margin
    where they meet, and about all of it at x. Stationarity of c |r| + loss says c = |grad loss|.
    """

    def loss(z):
        logits = logits_fn(z[None])[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, target_label)

    norm = safe_norm(jax.grad(loss)(image))
    return jnp.where(jnp.isfinite(norm) & (norm > 1e-6), 0.5 * norm, 1.0)


def _attack_one(logits_fn, image, target_label, lower, upper, *, num_penalties, squared_norm,
                **solver_options):  # fmt: skip
    """The search on c for one image; returns (_Best, num_evals, whether NaN or inf was met)."""

    def solve(carry):
        round_, z, search, best, num_evals, non_finite = carry
        c = search.penalty_weight
        objective = penalty_objective(logits_fn, image, target_label, c, squared_norm)
        solution = box_lbfgs.minimize_box(
            jax.value_and_grad(objective), z, lower, upper, **solver_options
        )
        z = solution.x
        norm = safe_norm(z - image)
        success = logits_fn(z[None])[0].argmax() == target_label
        better = success & (norm < best.norm)
        best = jax.tree.map(functools.partial(jnp.where, better), _Best(z, norm, c), best)
        non_finite |= solution.status == box_lbfgs.Status.NON_FINITE
        num_evals += solution.num_evals + 1
        return round_ + 1, z, penalty_search.advance(search, success), best, num_evals, non_finite

    def keep_going(carry):
        round_, _, search, best, _, _ = carry
        return (round_ < num_penalties) & ~penalty_search.is_narrow(search) & (best.norm > 0)

    there = logits_fn(image[None])[0].argmax() == target_label
    zero = jnp.zeros((), image.dtype)
    best = _Best(image, jnp.where(there, zero, jnp.inf), zero)
    search = penalty_search.start(_first_penalty(logits_fn, image, target_label))
    carry = (0, image, search, best, jnp.ones((), jnp.int32), jnp.asarray(False))
    _, _, _, best, num_evals, non_finite = jax.lax.while_loop(keep_going, solve, carry)
    return best, num_evals, non_finite


@functools.partial(jax.jit, static_argnames=("mesh", "options"))
def _attack_batch(logits_fn, images, target_labels, lower, upper, mesh, options) -> AttackResult:
    def attack_images(logits_fn, images, target_labels, lower, upper):
        attack_one = functools.partial(_attack_one, logits_fn, **dict(options))
        best, num_evals, non_finite = jax.vmap(attack_one)(images, target_labels, lower, upper)
        return _verify(logits_fn, images, target_labels, best, num_evals, non_finite)

    run = sharding.map_devices(attack_images, mesh)
    return run(logits_fn, images, target_labels, lower, upper)


def _verify(logits_fn, images, target_labels, best: _Best, num_evals, non_finite) -> AttackResult:
    """Judges success by a fresh forward pass, and blanks the rows that failed."""
    clean = logits_fn(images)
    there = clean.argmax(axis=-1) == target_labels
    reached = jnp.isfinite(best.norm) & (logits_fn(best.adv_image).argmax(axis=-1) == target_labels)
    success = there | reached
    kept = there | ~reached  # rows that hold the clean image
    adv_images = jnp.where(kept.reshape(-1, *[1] * (images.ndim - 1)), images, best.adv_image)
    non_finite |= ~jnp.isfinite(clean).all(axis=-1)
    status = jnp.where(non_finite, AttackStatus.NON_FINITE, AttackStatus.NOT_REACHED)
    status = jnp.where(reached, AttackStatus.REACHED, status)
    status = jnp.where(there, AttackStatus.ALREADY_THERE, status)
    return AttackResult(
        adv_images=adv_images,
        success=success,
        distortion=jnp.where(success, distortion(images, adv_images), jnp.inf),
        l2_norm=jnp.where(success, l2_norm(adv_images - images), jnp.inf),
        penalty_weight=jnp.where(kept, 0.0, best.penalty_weight),
        num_evals=num_evals,
        status=status.astype(jnp.int32),
    )


def _check_inputs(logits_fn, images, target_labels, bounds):
    """Raises InputError for arrays that cannot be attacked; returns them as numpy arrays."""
    images, target_labels = np.asarray(images), np.asarray(target_labels)
    if not np.issubdtype(images.dtype, np.floating):
        raise InputError(f"images have dtype {images.dtype}: give floats inside the bounds")
    if images.ndim < 2 or not len(images):
        raise InputError(f"images have shape {images.shape}: (batch, ...), at least one, is needed")
    if target_labels.shape != images.shape[:1]:
        raise InputError(f"target_labels have shape {target_labels.shape}: one per image, "
                         f"({len(images)},), is needed")  # fmt: skip
    try:
        lower, upper = (np.broadcast_to(np.asarray(b, images.dtype), images.shape) for b in bounds)
    except (TypeError, ValueError) as error:
        raise InputError("bounds must be (lower, upper), scalars or arrays that broadcast to "
                         f"images {images.shape}: {error}") from error  # fmt: skip
    if not (lower <= upper).all():
        raise InputError("bounds: lower exceeds upper (or one is NaN) somewhere")
    inside = (images >= lower) & (images <= upper)  # False for NaN too
    if not inside.all():
        first = int(np.argmin(inside.reshape(len(images), -1).all(axis=-1)))
        raise InputError(f"image {first} has pixels outside the bounds or NaN (it spans "
                         f"{images[first].min():g} to {images[first].max():g}): scale it or pass "
                         "other bounds")  # fmt: skip
    try:
        logits = jax.eval_shape(logits_fn, jax.ShapeDtypeStruct(images.shape, images.dtype))
    except Exception as error:  # whatever a model raises at a shape that it cannot take
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(
            f"logits_fn cannot take images of shape {images.shape}: {reason}"
        ) from error
    if getattr(logits, "ndim", 0) != 2 or logits.shape[0] != len(images):
        raise InputError(f"logits_fn must return logits (batch, classes), not {logits}")
    if not np.issubdtype(target_labels.dtype, np.integer):
        raise InputError(f"target_labels have dtype {target_labels.dtype}: give integers")
    if target_labels.min() < 0 or target_labels.max() >= logits.shape[1]:
        raise InputError(f"target_labels span {target_labels.min()} to {target_labels.max()}: the "
                         f"classes are 0 to {logits.shape[1] - 1}")  # fmt: skip
    return images, target_labels.astype(np.int32), lower, upper


def minimal_perturbation(
    logits_fn: Callable[[jax.Array], jax.Array],
    images,
    target_labels,
    *,
    bounds=(0.0, 1.0),
    solver: str = "jaxopt",
    num_penalties: int = 12,
    maxiter: int = 100,
    tol: float = 1e-3,
    history_size: int = 10,
    squared_norm: bool = False,
    num_lanes: int = 256,
    mesh: Mesh | None = None,
    progress: Callable[[int], None] | None = None,
) -> AttackResult:
    """Finds, for each image, the smallest change that makes the model answer its target class.

    Args:
      logits_fn: images (batch, ...) -> logits (batch, classes), row by row. If it is a
        `jax.tree_util.Partial` its arrays are inputs of the compiled attack, and it is compiled
        once for all of them; the arrays that any other callable closes over become constants.
      images: (batch, ...) floating, inside `bounds`.
      target_labels: (batch,) integers.
      bounds: (lower, upper), scalars or arrays that broadcast to `images`.
      solver: "jaxopt", the stock LBFGSB under vmap.
      num_penalties: values of c that are tried for each image, at most.
      maxiter: iterations per value of c, at most.
      tol: a solve ends when its projected gradient, of |r| + loss / c, is at most this.
      history_size: pairs that L-BFGS remembers.
      squared_norm: penalise |r|^2 in place of the paper's |r|.
      num_lanes: images that each device works on at a time.
      mesh: devices to use (`sharding.make_mesh`); default: one.
      progress: called after each batch with the number of images done.

    Returns:
      An `AttackResult` of numpy arrays, in the order of `images`.

    Raises:
      InputError: arrays, bounds or options that make no sense; the message says which.
    """
    images, target_labels, lower, upper = _check_inputs(logits_fn, images, target_labels, bounds)
    if solver not in SOLVERS:
        raise InputError(f'attack.solver is "{solver}": it must be one of {", ".join(SOLVERS)}')
    for name, value in (("num_penalties", num_penalties), ("maxiter", maxiter),
                        ("history_size", history_size), ("num_lanes", num_lanes)):  # fmt: skip
        if value < 1:
            raise InputError(f"attack.{name} is {value}: it must be at least 1")
    if not tol > 0:
        raise InputError(f"attack.tol is {tol}: it must be positive")
    mesh = sharding.make_mesh(1) if mesh is None else mesh
    options = (("num_penalties", num_penalties), ("squared_norm", squared_norm),
               ("maxiter", maxiter), ("tol", tol), ("history_size", history_size))  # fmt: skip
    batch_size = min(num_lanes * mesh.size, -(-len(images) // mesh.size) * mesh.size)
    results = []
    for start in range(0, len(images), batch_size):
        # The last batch is padded with its first rows: one compilation serves for all batches.
        indices = np.arange(start, start + batch_size)
        indices = np.where(indices < len(images), indices, start)
        arrays = [array[indices] for array in (images, target_labels, lower, upper)]
        result = _attack_batch(predict.as_partial(logits_fn), *arrays, mesh=mesh, options=options)
        num_real = min(batch_size, len(images) - start)
        results.append(jax.tree.map(lambda array: np.asarray(array)[:num_real], result))  # noqa: B023
        if progress is not None:
            progress(start + num_real)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def attack(
    logits_fn, images, labels, *, targets="random", key=None, indices=None, target_class=None,
    **options,
) -> tuple[AttackResult, np.ndarray]:  # fmt: skip
    """Chooses targets by a rule and attacks; returns (result, target labels (batch,) int32).

    Args:
      logits_fn, images, **options: as in `minimal_perturbation`.
      labels: (batch,) true classes.
      targets: a rule of `choose_targets`, or "best": every wrong class is tried, and the smallest
        success is kept (the untargeted minimum; classes - 1 times the work).
      key, indices, target_class: as in `choose_targets`.
    """
    logits = predict.logits(logits_fn, images)
    if targets != "best":
        target_labels = np.asarray(choose_targets(
            targets, logits, labels, key=key, indices=indices, target_class=target_class
        ))  # fmt: skip
        return minimal_perturbation(logits_fn, images, target_labels, **options), target_labels
    best, best_labels = None, None
    for offset in range(1, logits.shape[1]):
        target_labels = ((np.asarray(labels) + offset) % logits.shape[1]).astype(np.int32)
        result = minimal_perturbation(logits_fn, images, target_labels, **options)
        if best is None:
            best, best_labels = result, target_labels
            continue
        better = result.l2_norm < best.l2_norm
        num_evals = best.num_evals + result.num_evals
        best = jax.tree.map(
            lambda new, old, better=better: np.where(
                better.reshape(-1, *[1] * (new.ndim - 1)), new, old
            ),
            result, best,
        )._replace(num_evals=num_evals)  # fmt: skip
        best_labels = np.where(better, target_labels, best_labels)
    return best, best_labels
