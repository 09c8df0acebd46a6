"""What the benchmarks judge by: the network in PyTorch, the tracker of peers, and the records."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from intriguing import attack, models
from intriguing.models.layer_graph import LayerGraph, Node, chain
from intriguing.models.layers import (
    CAFFE,
    Concat,
    Conv,
    Dense,
    LocalResponseNorm,
    MaxPool,
    Relu,
    Sigmoid,
)

torch = pytest.importorskip("torch")
records = pytest.importorskip("benchmarks.records", reason="benchmarks are not in the package")
frontier, torch_nets, tracked = (
    pytest.importorskip(f"benchmarks.{name}") for name in ("frontier", "torch_nets", "tracked")
)


def every_layer() -> LayerGraph:
    """A network with one of each kind of layer that shapes or scales."""
    nodes: list[Node] = []
    chain(nodes, ("data", CAFFE), ("conv1", Conv(8, 5, 2, 1)), ("relu1", Relu()))
    chain(
        nodes, ("norm", LocalResponseNorm(5, 2e-5, 0.75, 1.0)), ("pool", MaxPool(3, 2, ceil=True))
    )
    left = chain(nodes, ("left", Conv(4, 3, 1, 1, groups=2)), start="pool")
    right = chain(nodes, ("right", Conv(4, 1)), start="pool")
    nodes.append(Node("both", Concat(), (left, right)))
    chain(nodes, ("fc", Dense(12)), ("sigmoid", Sigmoid()), ("top", Dense(5)))
    return LayerGraph(tuple(nodes))


@pytest.mark.parametrize("make", [every_layer, lambda: models.resnet(1)], ids=["layers", "resnet"])
def test_the_network_in_pytorch_is_ours(make):
    model = make()
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    params = jax.device_get(model.init(jax.random.key(0), images)["params"])
    ours, pull = jax.vjp(models.logits_fn(model, {"params": params}), jnp.asarray(images))
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    theirs = torch_nets.module(model, params)(x)
    size = np.abs(ours).max()
    np.testing.assert_allclose(theirs.detach().numpy(), ours, atol=1e-5 * size)
    (grad,) = torch.autograd.grad(theirs.sum(), x)
    (expected,) = pull(jnp.ones_like(ours))
    grad = grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(grad, expected, atol=1e-4 * np.abs(expected).max())


@pytest.fixture
def tracker():
    """A network that says 1 where the pixels' sum is over 1, and two black images to attack."""

    class Net(torch.nn.Module):
        def forward(self, images):
            over = images.flatten(1).sum(1) - 1
            return torch.stack([torch.zeros_like(over), over], dim=1)

    images = torch.zeros(2, 1, 2, 2)
    images[1] = 0.2
    return tracked.Tracked(Net(), images, torch.ones(2).long(), True, (2, 4))


def dots(value: float, num: int = 1) -> torch.Tensor:
    """(1, 1, 2, 2): `num` pixels of this value, the others black."""
    return torch.tensor([value] * num + [0.0] * (4 - num)).reshape(1, 1, 2, 2)


def test_the_tracker_keeps_the_smallest_success_of_the_nearest_image(tracker):
    for value in (0.9, 0.4, 0.3):
        tracker(dots(value, 4))  # nearer to the second image, which is grey
    assert torch.isinf(tracker.norms[:, 0]).all()
    np.testing.assert_allclose(tracker.norms[1, 1], 2 * 0.1, rtol=1e-6)
    tracker(dots(0.21, 4))  # its sum is below 1: no success
    np.testing.assert_allclose(tracker.norms[1, 1], 2 * 0.1, rtol=1e-6)
    tracker(dots(1.0) + dots(0.0))  # its sum is 1: at the boundary, and nearer to the first image
    assert torch.isinf(tracker.norms[:, 0]).all()


def test_the_tracker_clips_to_the_box(tracker):
    tracker(dots(7.0, 4))
    np.testing.assert_allclose(tracker.norms[1, 1], 2 * 0.8, rtol=1e-6)


def test_the_tracker_counts_passes_and_stops(tracker):
    x = torch.zeros(2, 1, 2, 2, requires_grad=True)
    logits = tracker(x)
    assert tracker.passes.tolist() == [2, 0]  # both are nearest to the first image
    torch.autograd.grad(logits[:, 1].sum(), x, retain_graph=True)
    torch.autograd.grad(logits[:, 0].sum(), x)
    assert tracker.passes.tolist() == [6, 0]
    for _ in range(8):
        tracker(dots(0.26, 4))
    assert tracker.passes.tolist() == [6, 8]
    for _ in range(2):  # the other image has had all of its own, this one has not
        tracker(dots(0.0))
    with pytest.raises(tracked.Spent):
        tracker(dots(0.0))


def test_what_comes_after_a_budget_does_not_count_for_it(tracker):
    for _ in range(4):
        tracker(dots(0.2, 4))
    tracker(dots(0.26, 4))  # the fifth pass: after 2 evaluations, within 4
    assert np.isinf(tracker.norms[0, 1]) and np.isfinite(tracker.norms[1, 1])


@pytest.mark.parametrize("goal", ["targeted", "untargeted"])
def test_somebody_else_counts_our_evaluations(goal):
    """Through the door: what is asked beside the budget is a handful of passes."""
    door = pytest.importorskip("intriguing.torch")
    rng = np.random.default_rng(1)
    module = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(16, 12), torch.nn.ReLU(), torch.nn.Linear(12, 4)
    )
    torch.manual_seed(0)
    for layer in module[1::2]:
        torch.nn.init.normal_(layer.weight)
    images = torch.from_numpy(rng.uniform(0.3, 0.7, (1, 1, 4, 4)).astype(np.float32))
    with torch.no_grad():
        order = module(images).argsort(dim=1)
    wanted, budget = order[:, -2 if goal == "targeted" else -1], 230
    model = tracked.Tracked(module, images, wanted, goal == "targeted", (budget, 2 * budget))
    found = attack.minimal_perturbation(
        door.logits_fn(model), images.numpy(), wanted.numpy(), goal=goal, budget=budget, num_lanes=1
    )
    assert found.success.all()
    np.testing.assert_array_less(model.passes.numpy(), 2 * budget + 20)
    np.testing.assert_array_less(model.norms[-1], found.l2_norm * (1 + 1e-4))
    np.testing.assert_allclose(model.norms[0], found.l2_norm, rtol=0.02)


def test_records_go_on_after_a_line_that_was_cut(tmp_path):
    path = tmp_path / "a" / "rows.jsonl"
    assert records.read(path) == []
    records.append(path, {"a": records.short([1 / 3, np.inf])})
    with open(path, "a") as file:
        file.write('{"a": [0.5')
    records.append(path, {"a": 2})
    rows = records.read(path)
    assert rows == [{"a": [0.333333, None]}, {"a": 2}]
    assert records.full(rows[0]["a"]) == [0.333333, np.inf]


def test_the_better_run_by_then_is_a_peers():
    def row(budget, *norms):
        return {
            "side": "DDN",
            "budget": budget,
            "marks": [budget],
            "norms": [norms],
            "seconds": 4.0,
        }

    rows = [row(50, 1.0, None), row(100, 2.0, 2.0), row(200, 3.0, 3.0), row(1000, 0.1, 0.1)]
    assert frontier.best_at(rows, 20) == {}
    assert frontier.best_at(rows, 60)["DDN"]["budget"] == 50
    assert frontier.best_at(rows, 300)["DDN"]["budget"] == 100  # the longer one is worse
    assert frontier.best_at(rows, 1000)["DDN"]["norms"].tolist() == [0.1, 0.1]
    ours, theirs = np.array([1.0, 1.0, np.inf, 3.0]), np.array([2.0, 2.0, 1.0, 6.0])
    assert frontier.compare(ours, theirs)[2:] == ["0.500 (0.500 to 0.500)", "100%"]
