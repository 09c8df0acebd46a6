"""Tests for intriguing/predict.py: a model is read as it is now."""

import devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from intriguing import attack, predict
from intriguing.errors import InputError

TRACES = []


class Model:
    """Weights that change in place, as those of Flax's NNX modules do."""

    def __init__(self, seed):
        self.kernel = jax.random.normal(jax.random.key(seed), (16, 5))

    def __call__(self, images):
        TRACES.append(images.shape)
        return images.reshape(len(images), -1) @ self.kernel


def closure_over_a_dict():
    weights = {"kernel": jax.random.normal(jax.random.key(1), (16, 5))}
    return weights, lambda images: images @ weights["kernel"]


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0.3, 0.7, (6, 16)).astype(np.float32)


def check(model, images):
    """Attacks the model as it is, and asks it itself."""
    classes = np.asarray(model(images)).argmax(axis=1)
    np.testing.assert_array_equal(predict.predict(model, images), classes)
    targets = (classes + 1) % 5
    result = attack.minimal_perturbation(model, images, targets)
    assert result.success.all()
    np.testing.assert_array_equal(np.asarray(model(result.adv_images)).argmax(axis=1), targets)


def test_weights_that_change_in_place(images):
    model = Model(0)
    check(model, images)
    model.kernel = -model.kernel
    check(model, images)


def test_a_method_and_a_closure_that_change(images):
    model = Model(0)
    check(model.__call__, images)
    model.kernel = 2 * jnp.roll(model.kernel, 1, axis=1)
    check(model.__call__, images)
    weights, logits_fn = closure_over_a_dict()
    check(logits_fn, images)
    weights["kernel"] = -weights["kernel"]
    check(logits_fn, images)


def test_other_code_under_the_same_name(images):
    """What is not an array changes the program, and is compiled anew."""
    settings = {"sign": 1.0}
    kernel = jax.random.normal(jax.random.key(2), (16, 5))

    def logits_fn(images):
        return settings["sign"] * (images @ kernel)

    check(logits_fn, images)
    settings["sign"] = -1.0
    check(logits_fn, images)


def test_other_weights_compile_nothing(images):
    """Reading a model traces it once for one image; the engine does not trace it again."""
    check(Model(3), images)
    del TRACES[:]
    check(Model(4), images)  # another object, too
    assert set(TRACES) <= {(1, 16), (6, 16)}  # read, and asked by the test and the checks


def test_arrays_that_depend_on_the_number_of_images(images):
    def logits_fn(images):
        return images @ np.ones((16, 3), np.float32) + np.zeros((len(images), 1), np.float32)

    with pytest.raises(InputError, match=r"depend on the number of images.*Partial"):
        predict.logits(logits_fn, images)


def on_the_host(kernel):
    """A network whose program is a callback: what it computes is nowhere in JAX."""

    def logits(images):
        return np.asarray(images) @ np.asarray(kernel)

    @jax.custom_vjp
    def logits_fn(images):
        shape = jax.ShapeDtypeStruct((len(images), kernel.shape[1]), images.dtype)
        return jax.pure_callback(logits, shape, images, vmap_method="sequential")

    logits_fn.defvjp(
        lambda images: (logits_fn(images), None), lambda _, weights: (weights @ kernel.T,)
    )
    return logits_fn


def test_callbacks_of_the_same_name_are_not_the_same(images):
    kernels = np.random.default_rng(1).normal(size=(2, 16, 5)).astype(np.float32)
    for kernel in (kernels[0], kernels[1], kernels[0]):
        check(on_the_host(kernel), images)

    # What has no gradient is told apart, too.
    def called(host):
        shapes = lambda x: jax.ShapeDtypeStruct((len(x), 5), jnp.float32)  # noqa: E731
        return lambda x: jax.pure_callback(host, shapes(x), x)

    for kernel in kernels:
        host = lambda x, kernel=kernel: np.asarray(x) @ kernel  # noqa: E731
        found = predict.logits(called(host), images, 6)
        np.testing.assert_allclose(found, images @ kernel, rtol=1e-5)


def straight_through(kernel, slope):
    """A rounding layer with a gradient of its own, which the program of its value does not hold."""

    @jax.custom_vjp
    def rounded(x):
        return jnp.round(8 * x) / 8

    rounded.defvjp(lambda x: (rounded(x), None), lambda _, weights: (weights * slope[None],))
    return lambda images: rounded(images) @ kernel


def own_tangent(kernel, slope):
    @jax.custom_jvp
    def same(x):
        return 1.0 * x

    same.defjvp(lambda primals, tangents: (same(primals[0]), slope[None] * tangents[0]))
    return lambda images: same(images) @ kernel


@pytest.mark.parametrize("make", [straight_through, own_tangent])
def test_rules_of_gradients_are_part_of_the_program(make, images):
    """Two networks with equal values, one of which tells its gradient the wrong way round."""
    kernel = jax.random.normal(jax.random.key(0), (16, 5))
    slopes = np.linspace(0.5, 1.5, 16, dtype=np.float32)
    first, second = make(kernel, slopes), make(kernel, -slopes)
    models = [predict.as_partial(net, images) for net in (first, second, make(kernel, slopes))]
    assert models[0].func != models[1].func and models[0].func == models[2].func

    @jax.jit
    def gradient(model, images):
        return jax.grad(lambda images: model(images).sum())(images)

    gradients = [np.asarray(gradient(model, images)) for model in models]
    np.testing.assert_allclose(gradients[0], -gradients[1], rtol=1e-6)
    np.testing.assert_allclose(gradients[0], gradients[2], rtol=1e-6)


def test_a_rule_that_closes_over_weights_sees_them_change(images):
    weights = {"kernel": np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)}

    @jax.custom_vjp
    def dense(x):
        return x @ weights["kernel"]

    dense.defvjp(lambda x: (dense(x), None), lambda _, ct: (ct @ weights["kernel"].T,))
    check(lambda x: dense(x), images)
    weights["kernel"] = -weights["kernel"][:, ::-1].copy()
    check(lambda x: dense(x), images)


def test_activations_of_the_library_compile_nothing_anew(images):
    """relu's rule is JAX's own: other weights are the same program."""
    nets = [
        predict.as_partial(lambda x, w=w: jax.nn.relu(x @ w), images)
        for w in np.random.default_rng(0).normal(size=(2, 16, 5)).astype(np.float32)
    ]
    assert nets[0].func == nets[1].func


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_no_class(caplog, value):
    """Its argmax would be class 0: an error rate would count it as right."""
    images = np.zeros((5, 2), np.float32)
    images[[1, 3], 0] = 1

    def logits_fn(images):
        return jnp.stack([jnp.where(images[:, 0] > 0, value, 1.0), jnp.zeros(len(images))], -1)

    assert predict.predict(logits_fn, images).tolist() == [0, -1, 0, -1, 0]
    assert caplog.messages == [
        "2 of 5 images: the network gives NaN or infinity, which is no class"
    ]


def test_a_masked_class_is_still_a_class_of_none():
    logits = np.array([[-np.inf, 0.5], [0.5, -np.inf]])
    assert predict.class_of(logits).tolist() == [1, 0]


def test_no_images_no_answers():
    found = predict.logits(lambda x: x.reshape(len(x), -1)[:, :3], np.zeros((0, 2, 2), np.float32))
    assert found.shape == (0, 3)
    assert predict.predict(lambda x: x, np.zeros((0, 2), np.float32)).shape == (0,)


@pytest.mark.parametrize(
    ("logits_fn", "images", "message"),
    [
        (lambda x: x.reshape(4, 16), np.zeros((3, 16)), "takes no other number"),
        (lambda x: x.sum(), np.zeros((3, 16)), "must return logits"),
        (lambda x: None, np.zeros((3, 16)), "must return logits"),
        (lambda x: x + 0j, np.zeros((3, 16)), "must return logits"),
        (lambda x: x, [[0.1], [0.2, 0.3]], "no array"),
        (lambda x: x, "abc", "give numbers"),
        (lambda x: x, 0.3, "give numbers"),
        (lambda x: x.missing, np.zeros((3, 16)), "cannot take images"),
    ],
)
def test_what_makes_no_sense_is_one_line(logits_fn, images, message):
    with pytest.raises(InputError, match=message) as caught:
        predict.predict(logits_fn, images)
    assert "\n" not in str(caught.value)


ON_ALL = """
import json, numpy as np, jax
from intriguing import predict, sharding
rng = np.random.default_rng(0)
weights = rng.normal(size=(20, 5)).astype(np.float32)
images = rng.uniform(size=(1111, 20)).astype(np.float32)
logits_fn = jax.tree_util.Partial(lambda w, x: jax.nn.relu(x @ w), weights)
alone = predict.logits(logits_fn, images, 64)
used = []
with sharding.using(sharding.make_mesh()):
    together = predict.logits(logits_fn, images, 64)
    few = predict.logits(logits_fn, images[:50], 64)
print(json.dumps([len(jax.devices()), bool((alone == together).all()),
                  bool((few == alone[:50]).all()), alone.shape]))
"""


def test_all_devices_give_what_one_does():
    assert devices.run(ON_ALL) == [8, True, True, [1111, 5]]
