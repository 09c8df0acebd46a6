"""A program as a user writes it; `typed_test.py` has the strictest of type checkers read it."""

from typing import assert_type

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import intriguing
from intriguing import AttackOptions, AttackResult, AttackStatus, plots


def logits_fn(images: jax.Array) -> jax.Array:
    return images.reshape(len(images), -1) @ jnp.ones((64, 10))


images = np.zeros((4, 8, 8, 1), np.float32)
labels = np.zeros(4, int)
result = intriguing.minimal_perturbation(logits_fn, images, labels)
assert_type(result, AttackResult)
untargeted = intriguing.minimal_perturbation(
    Partial(logits_fn),  # type: ignore[no-untyped-call]  # it is JAX that has not typed it
    jnp.asarray(images), [0, 1, 2, 3], goal="untargeted", budget=50,
    bounds=(0, images + 1), progress=True,
)  # fmt: skip
pair = {"left": images, "right": images}
goal = intriguing.from_margin(lambda outputs: outputs[:, 0] - 0.8)
intriguing.minimal_perturbation(lambda x: logits_fn(x["left"]), pair, goal=goal)
found, targets = intriguing.attack_batch(logits_fn, images, labels, key=jax.random.key(0))
assert_type(found, AttackResult)
print(targets.max(), result.l2_norm[result.success].mean(), result.status == AttackStatus.REACHED)

problem = intriguing.problem_of(images, labels, goal="untargeted")
assert_type(intriguing.solve(logits_fn, problem, AttackOptions(budget=30)), AttackResult)
intriguing.save("a.npz", result)
assert_type(intriguing.load("a.npz"), AttackResult)
curve = intriguing.robustness_curve(result, np.linspace(0, 1, 5))
plots.robustness_curve(curve).savefig("curve.png")
plots.show(images, result, logits_fn=logits_fn, class_names=["a", "b"]).savefig("show.png")
plots.distortions({"a": result}).savefig("distortions.png")
table, _ = intriguing.transfer_table({"a": logits_fn}, {"a": result.adv_images}, images, labels)
assert_type(table, dict[str, list[float]])
amplified = intriguing.amplify(images, result.adv_images, 0.1)
top = intriguing.top_images(np.zeros((9, 5)), None, 3)
print(intriguing.coherence(top, np.zeros(9, int), np.zeros((9, 4)), np.zeros((9, 5)), 10).purity)
radius = intriguing.certified_radius(np.zeros((4, 10)), labels, 2.0)
print(intriguing.load_results("runs/digits").arrays["FC10(1)/refined"]["l2_norm"], radius)
try:
    intriguing.minimal_perturbation(logits_fn, images, labels, bounds=(1, 0))
except intriguing.InputError as error:
    print(error, intriguing.__version__)
