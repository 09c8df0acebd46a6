"""The peers of `peers.py`: targeted minimal-L2 attacks of foolbox, adv-lib and ART, on PyTorch.

Every attack has its library's defaults (or its authors' settings for MNIST) except where a comment
says otherwise, and then the change is in the peer's favour.
"""

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import nn

# adv-lib imports these at its top, for LPIPS and for plots; no attack here uses either.
_UNUSED_BY_ADV_LIB = ("torchvision", "visdom")


class CountingModel(nn.Module):
    """Logits of images (batch, pixels); counts the images that went forward and backward."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers
        self.num_forward = self.num_backward = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.layers(images)
        self.num_forward += len(images)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)
        return logits

    def _count_backward(self, gradient: torch.Tensor) -> None:
        self.num_backward += len(gradient)


class Problem(NamedTuple):
    """What a peer is given; `starts` holds, for each image, one that the model calls its target.

    Fields: images (num, pixels) float32 in [0, 1], targets (num,) int64, starts like images.
    """

    model: CountingModel
    images: torch.Tensor
    targets: torch.Tensor
    starts: torch.Tensor

    def take(self, num: int) -> "Problem":
        return Problem(self.model, *(array[:num] for array in self[1:]))


class Budget(NamedTuple):
    """Options of one attack; `slow` ones take over a quarter of an hour for 1,000 images."""

    name: str
    options: dict[str, Any]
    slow: bool = False


class Peer(NamedTuple):
    """One attack: run(problem, **options) -> adversarial images (num, pixels)."""

    origin: str
    name: str
    run: Callable[..., Any]
    budgets: tuple[Budget, ...]
    warm_up: dict[str, Any]


class Run(NamedTuple):
    """Adversarial images (num, pixels), seconds, and forward and backward passes per image."""

    adv_images: np.ndarray
    seconds: float
    passes: tuple[float, float]


def make_model(params: dict) -> CountingModel:
    """The sigmoid net whose flax parameters are fc1, fc2, ...: {"kernel", "bias"}."""
    layers = []
    for name in sorted(params):
        kernel, bias = (np.array(params[name][part]) for part in ("kernel", "bias"))
        linear = nn.Linear(*kernel.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(kernel.T.copy()))
            linear.bias.copy_(torch.from_numpy(bias))
        layers += [linear, nn.Sigmoid()]
    # Gradients with respect to the weights, which some peers compute and none uses, cost time.
    return CountingModel(nn.Sequential(*layers[:-1])).requires_grad_(False).eval()


def make_problem(params: dict, images, targets, starts, num_threads: int) -> Problem:
    """The task for PyTorch, which is told to use `num_threads` cores."""
    torch.set_num_threads(num_threads)
    images, starts = (torch.from_numpy(x.reshape(len(x), -1).copy()) for x in (images, starts))
    return Problem(make_model(params), images, torch.from_numpy(targets), starts)


def run(problem: Problem, peer: Peer, budget: Budget, seed: int) -> Run:
    """Warms up on four images, then attacks all of them in one batch."""
    peer.run(problem.take(4), **{**budget.options, **peer.warm_up})
    torch.manual_seed(seed)
    model = problem.model
    model.num_forward = model.num_backward = 0
    start = time.perf_counter()
    adv_images = peer.run(problem, **budget.options)
    seconds = time.perf_counter() - start
    passes = tuple(count / len(problem.images) for count in (model.num_forward, model.num_backward))
    return Run(np.asarray(adv_images), seconds, passes)


def _run_foolbox(attack, problem: Problem, **arguments) -> torch.Tensor:
    import foolbox

    model = foolbox.PyTorchModel(problem.model, bounds=(0, 1), device="cpu")
    criterion = foolbox.criteria.TargetedMisclassification(problem.targets)
    raw, _, _ = attack(model, problem.images, criterion, epsilons=None, **arguments)
    return raw


def foolbox_ddn(problem: Problem, **options) -> torch.Tensor:
    from foolbox.attacks import DDNAttack

    return _run_foolbox(DDNAttack(**options), problem)


def foolbox_fmn(problem: Problem, **options) -> torch.Tensor:
    from foolbox.attacks import L2FMNAttack

    return _run_foolbox(L2FMNAttack(**options), problem)


def foolbox_carlini(problem: Problem, **options) -> torch.Tensor:
    from foolbox.attacks import L2CarliniWagnerAttack

    return _run_foolbox(L2CarliniWagnerAttack(**options), problem)


def foolbox_brendel(problem: Problem, *, lr: float = 1e-3, **options) -> torch.Tensor:
    """Brendel-Bethge with the trust region of a batch of one: foolbox's grows with the batch."""
    from foolbox.attacks import L2BrendelBethgeAttack

    attack = L2BrendelBethgeAttack(lr=lr / len(problem.images), **options)
    return _run_foolbox(attack, problem, starting_points=problem.starts)


def adv_lib():
    """The module `adv_lib.attacks`, whether or not the packages that it does not need are there."""
    stubs = {name: mock.MagicMock() for name in _UNUSED_BY_ADV_LIB if name not in sys.modules}
    sys.modules.update(stubs)
    try:
        return importlib.import_module("adv_lib.attacks")
    finally:
        for name in stubs:
            del sys.modules[name]


def _run_adv_lib(problem: Problem, attack: str, **options) -> torch.Tensor:
    run = getattr(adv_lib(), attack)
    return run(problem.model, problem.images, problem.targets, targeted=True, **options)


def adv_lib_ddn(problem: Problem, **options) -> torch.Tensor:
    # Without rounding to 256 levels, its default: nobody else solves that harder problem.
    return _run_adv_lib(problem, "ddn", levels=None, **options)


def adv_lib_fmn(problem: Problem, **options) -> torch.Tensor:
    return _run_adv_lib(problem, "fmn", norm=2, **options)


def adv_lib_alma(problem: Problem, **options) -> torch.Tensor:
    # The first step's length is that of its authors' experiments on MNIST.
    return _run_adv_lib(problem, "alma", distance="l2", init_lr_distance=0.1, **options)


def adv_lib_carlini(problem: Problem, **options) -> torch.Tensor:
    return _run_adv_lib(problem, "carlini_wagner_l2", **options)


def art_carlini(problem: Problem, **options) -> np.ndarray:
    from art.attacks.evasion import CarliniL2Method
    from art.estimators.classification import PyTorchClassifier

    images = problem.images.numpy()
    num_classes = problem.model.layers[-1].out_features
    classifier = PyTorchClassifier(
        problem.model, nn.CrossEntropyLoss(), images.shape[1:], num_classes,
        clip_values=(0.0, 1.0), device_type="cpu",
    )  # fmt: skip
    # Its default is one image at a time.
    attack = CarliniL2Method(
        classifier, targeted=True, batch_size=len(images), verbose=False, **options
    )
    return attack.generate(images, problem.targets.numpy())


def _steps(*numbers: int, slow: bool = False, option: str = "steps") -> tuple[Budget, ...]:
    return tuple(Budget(f"{number} steps", {option: number}, slow) for number in numbers)


def _carlini(binary: int, steps: int, option: str, slow: bool = False, note: str = "") -> Budget:
    name = f"{binary} x {steps}{note}"
    return Budget(name, {"binary_search_steps": binary, option: steps}, slow)


# The smoothing that its authors use with 100 steps; the option's name is the Greek letter.
_ALMA_100 = Budget("100 steps", {"num_steps": 100, "\N{GREEK SMALL LETTER ALPHA}": 0.5})

PEERS = (
    Peer("foolbox", "DDN", foolbox_ddn, _steps(100, 1000), {"steps": 5}),
    Peer("foolbox", "FMN", foolbox_fmn, _steps(100, 1000), {"steps": 5}),
    Peer("adv-lib", "DDN", adv_lib_ddn, _steps(100, 1000), {"steps": 5}),
    Peer("adv-lib", "FMN", adv_lib_fmn, _steps(100, 1000), {"steps": 5}),
    Peer("adv-lib", "ALMA", adv_lib_alma, (_ALMA_100, *_steps(1000, option="num_steps")),
         {"num_steps": 20}),
    Peer("ART", "C&W", art_carlini,
         (_carlini(10, 10, "max_iter"), _carlini(9, 1000, "max_iter", slow=True)),
         {"binary_search_steps": 2, "max_iter": 2}),
    Peer("foolbox", "Brendel-Bethge", foolbox_brendel,
         _steps(100, 1000), {"steps": 5}),
    Peer("foolbox", "C&W", foolbox_carlini,
         (_carlini(9, 1000, "steps", note=" (reduced)"), _carlini(9, 10_000, "steps", slow=True)),
         {"binary_search_steps": 2, "steps": 10}),
    Peer("adv-lib", "C&W", adv_lib_carlini,
         (_carlini(9, 1000, "max_iterations", note=" (reduced)"),
          _carlini(9, 10_000, "max_iterations", slow=True)),
         {"binary_search_steps": 2, "max_iterations": 10}),
)  # fmt: skip
