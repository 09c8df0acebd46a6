"""Tests for intriguing/identity.py: equal for what is equal, in another process too; else not."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from intriguing import identity, models

ROOT = Path(__file__).resolve().parents[1]
X = np.arange(12, dtype=np.float32).reshape(3, 4)
CHANGES = {
    "a value": (X, np.where(X == 5, 5.000001, X).astype(np.float32)),
    "minus zero": (X, -X * np.where(X == 0, 1, -1)),
    "dtype": (X, X.astype(np.float64)),
    "shape": (X, X.reshape(4, 3)),
    "order": (X, X.T.copy().T[::-1]),
    "names": ({"a": X, "b": X + 1}, {"a": X, "c": X + 1}),
    "which is which": ({"a": X, "b": X + 1}, {"a": X + 1, "b": X}),
    "text": ("ab", "ac"),
    "grouping of texts": (("ab", "c"), ("a", "bc")),
    "key": (jax.random.key(0), jax.random.key(1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_arrays_that_differ(change):
    first, second = CHANGES[change]
    assert identity.of_arrays(first) == identity.of_arrays(first) != identity.of_arrays(second)


def test_arrays_that_are_equal_wherever_they_lie():
    assert identity.of_arrays(X) == identity.of_arrays(jnp.asarray(X))
    assert identity.of_arrays(X) == identity.of_arrays(np.asfortranarray(X))
    assert identity.of_arrays({"b": X, "a": 1}) == identity.of_arrays({"a": 1, "b": X})


def net(hidden=(5,), num_classes=3):
    return models.fully_connected(hidden, num_classes)


def logits_fn(model, seed=0):
    return models.logits_fn(model, model.init(jax.random.key(seed), X))


def test_a_model_is_its_weights_and_its_network():
    first = identity.of_model(logits_fn(net()), (4,))
    assert first == identity.of_model(logits_fn(net()), (4,))
    weights = identity.of_model(logits_fn(net(), seed=1), (4,))
    assert identity.differences(first, weights) == "weights"
    with_relu = Partial(lambda variables, x: jax.nn.relu(net().apply(variables, x)[0]),
                        net().init(jax.random.key(0), X))  # fmt: skip
    assert identity.differences(first, identity.of_model(with_relu, (4,))) == "network"
    closure = identity.of_model(lambda x: x @ X.T, (4,))
    other = identity.of_model(lambda x: x @ (X.T + 1), (4,))
    assert identity.differences(closure, other) == "network"


def test_settings():
    first = identity.of_settings(tol=1e-3, sizes=(1, 2), rates={"fc1": 0.5})
    assert first == identity.of_settings(rates={"fc1": 0.5}, sizes=[1, 2], tol=1e-3)
    assert first != identity.of_settings(rates={"fc1": 0.5}, sizes=[1, 2], tol=2e-3)


SCRIPT = """
import jax, numpy as np
from intriguing import identity, models
model = models.conv_net((3,), 4, 3)
images = np.zeros((2, 8, 8, 1), np.float32)
variables = model.init(jax.random.key(0), images)
def loss(variables, images):
    logits = model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(1)})[0]
    return jax.nn.logsumexp(jax.nn.gelu(logits)) + jax.nn.relu(logits).sum()
print(identity.of_function(jax.grad(loss), variables, images), identity.of_arrays(variables),
      identity.name(identity.of_model(models.logits_fn(model, variables), (8, 8, 1))))
"""


def test_another_process_finds_the_same():
    def run(seed):
        env = {**os.environ, "PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"}
        return subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT], cwd=ROOT, env=env,
                              capture_output=True, text=True, check=True).stdout  # fmt: skip

    first = run("1")
    assert len(set(first.split())) == 3 and first == run("2")
