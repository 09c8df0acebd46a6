"""PyTorch's modules through `intriguing.torch`: the same perturbations as of the network in JAX."""

import os
from pathlib import Path

import devices
import jax
import numpy as np
import pytest
import torch_blocks

from intriguing import attack, models, predict
from intriguing.errors import InputError
from intriguing.models import import_weights

torch = pytest.importorskip("torch")
from intriguing import torch as door  # noqa: E402

WEIGHTS = Path(os.environ.get("INTRIGUING_DATA", "")) / "weights" / "cifar10"
IMAGES = np.random.default_rng(0).uniform(0.2, 0.8, (6, 1, 8, 8)).astype(np.float32)


def make_module(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(256, 5),
    ).eval()  # fmt: skip


def ported(module):
    state = {name: jax.numpy.asarray(value.numpy()) for name, value in module.state_dict().items()}

    def logits_fn(x):
        x = jax.lax.conv(x, state["0.weight"], (1, 1), "SAME")
        x = jax.nn.relu(x + state["0.bias"][None, :, None, None]).reshape(len(x), -1)
        return x @ state["3.weight"].T + state["3.bias"][None]

    return logits_fn


@pytest.fixture(scope="module")
def module():
    return make_module()


def nearest(logits_fn, images=IMAGES, **options):
    labels = predict.predict(logits_fn, images)
    return attack.minimal_perturbation(logits_fn, images, labels, goal="untargeted", **options)


def test_the_same_perturbations_as_in_jax(module):
    there, here = nearest(door.logits_fn(module)), nearest(ported(module))
    assert there.success.all() and here.success.all()
    np.testing.assert_allclose(there.l2_norm, here.l2_norm, rtol=1e-4)
    with torch.no_grad():
        answers = module(torch.tensor(there.adv_images)).argmax(dim=1).numpy()
    assert (answers != predict.predict(ported(module), IMAGES)).all()


def test_values_and_gradients_are_pytorchs(module):
    logits_fn, weights = door.logits_fn(module), np.random.default_rng(1).normal(size=(6, 5))
    x = torch.tensor(IMAGES, requires_grad=True)
    outputs = module(x)
    (outputs * torch.tensor(weights, dtype=torch.float32)).sum().backward()
    found, vjp = jax.vjp(logits_fn, IMAGES)
    np.testing.assert_allclose(found, outputs.detach().numpy(), atol=1e-6)
    (grad,) = vjp(weights.astype(np.float32))
    np.testing.assert_allclose(grad, x.grad.numpy(), atol=1e-6)
    np.testing.assert_allclose(jax.jit(logits_fn)(IMAGES), found, atol=1e-6)


def test_each_gradient_costs_one_forward_pass():
    calls, inner = [], make_module()

    def module(x):
        calls.append(torch.is_grad_enabled())
        return inner(x)

    logits_fn = door.logits_fn(module)
    jax.block_until_ready(jax.jit(jax.grad(lambda x: logits_fn(x).sum()))(IMAGES))
    assert calls == [False, True]  # the shape of the logits; the pass itself


def test_images_with_channels_last(module):
    last = np.moveaxis(IMAGES, 1, 3)
    found = nearest(door.logits_fn(module, layout="NHWC"), last)
    first = nearest(door.logits_fn(module))
    np.testing.assert_allclose(found.l2_norm, first.l2_norm, rtol=1e-4)
    assert found.adv_images.shape == last.shape


def test_weights_that_change_and_two_modules():
    module, other = make_module(0), make_module(1)
    logits_fn = door.logits_fn(module)
    for net, fn in ((module, logits_fn), (other, door.logits_fn(other))):
        np.testing.assert_allclose(nearest(fn).l2_norm, nearest(ported(net)).l2_norm, rtol=1e-4)
    with torch.no_grad():
        module[3].weight.mul_(-1)
    np.testing.assert_allclose(
        nearest(logits_fn).l2_norm, nearest(ported(module)).l2_norm, rtol=1e-4
    )


def test_what_it_refuses(module):
    with pytest.raises(InputError, match=r"module\.eval"):
        door.logits_fn(make_module().train())
    with pytest.raises(InputError, match="layout"):
        door.logits_fn(module, layout="CHWN")
    with pytest.raises(InputError, match=r"intriguing\.torch\.logits_fn"):
        attack.minimal_perturbation(module, IMAGES, np.zeros(6, int))
    with pytest.raises(InputError, match="cannot take images"):
        attack.minimal_perturbation(door.logits_fn(module), IMAGES[:, :, :4], np.zeros(6, int))


SCRIPT = """
import json
import numpy as np
import torch_test
from intriguing import sharding
rng = np.random.default_rng(0)
images = rng.uniform(0.2, 0.8, (64, 1, 8, 8)).astype(np.float32)
net = torch_test.door.logits_fn(torch_test.make_module())
one = torch_test.nearest(net, images, budget=30)
many = torch_test.nearest(net, images, budget=30, mesh=sharding.make_mesh(), num_lanes=4)
print(json.dumps([one.l2_norm.tolist(), many.l2_norm.tolist()]))
"""


@pytest.mark.slow
def test_several_devices_call_it_at_once():
    one, many = devices.run(SCRIPT, num=4)
    np.testing.assert_allclose(one, many, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="INTRIGUING_DATA has no weights/")
def test_resnet20_is_the_same_in_both():
    """To 1e-5 of the norms in the mean; single images may round to another way."""
    path = WEIGHTS / "resnet20.npz"
    weights, tensors = import_weights.load(path, "resnet20"), dict(np.load(path))
    mean, std = (torch.tensor(each)[:, None, None] for each in (
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip
    theirs = door.logits_fn(lambda x: torch_blocks.resnet(tensors, (x - mean) / std), layout="NHWC")
    ours = models.logits_fn(weights.model, {"params": weights.params})
    with np.load(WEIGHTS.parents[1] / "cifar10" / "cifar10_sample.npz") as archive:
        images = (archive["x_test"][:4] / 255).astype(np.float32)
    found, expected = (nearest(fn, images, budget=30) for fn in (theirs, ours))
    np.testing.assert_allclose(found.l2_norm, expected.l2_norm, rtol=1e-3)
