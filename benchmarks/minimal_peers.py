"""The minimal-L2 attacks that ours is compared with: adv-lib's, and foolbox's DDN.

Each has its authors' settings, and a second tuning where its library has a length of steps to set:
the better one is kept. `SCHEDULED` ones plan their steps for a number of evaluations, and are run
anew for each; the others are stopped when they have had the largest.
"""

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from unittest import mock

import torch

from benchmarks.tracked import Spent

# adv-lib imports these at its top, for LPIPS and for plots; no attack here uses either.
_UNUSED_BY_ADV_LIB = ("torchvision", "visdom")


class Peer(NamedTuple):
    """One attack.

    Fields: `run`(model, images, labels, targeted, **options); `tunings`, {name: options}; `length`,
    from evaluations to options, None where there is nothing to plan; `targets`, whether it can.
    """

    run: Callable[..., Any]
    tunings: Mapping[str, dict]
    length: Callable[[int], dict] | None = None
    targets: bool = True


@functools.cache
def adv_lib():
    """The module `adv_lib.attacks`, whether or not the packages that it does not need are there."""
    stubs = {name: mock.MagicMock() for name in _UNUSED_BY_ADV_LIB if name not in sys.modules}
    sys.modules.update(stubs)
    try:
        return importlib.import_module("adv_lib.attacks")
    finally:
        for name in stubs:
            del sys.modules[name]


def _of_adv_lib(name: str, **fixed) -> Callable:
    def run(model, images, labels, targeted, **options):
        attack = getattr(adv_lib(), name)
        return attack(model, images, labels, targeted=targeted, **fixed, **options)

    return run


def _apgd_t(model, images, labels, targeted, **options):
    minimal = sys.modules[f"{adv_lib().__name__}.auto_pgd"].minimal_apgd
    return minimal(model, images, labels, norm=2, targeted=targeted, targeted_version=True,
                   **options)  # fmt: skip


def _foolbox_ddn(model, images, labels, targeted, *, steps, **options):
    import foolbox

    criteria = foolbox.criteria
    wanted = (criteria.TargetedMisclassification if targeted else criteria.Misclassification)(
        labels
    )
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.DDNAttack(steps=steps, **options)
    return attack(wrapped, images, wanted, epsilons=None)[0]


def _steps(option: str) -> Callable[[int], dict]:
    return lambda num: {option: num}


def _carlini(num: int) -> dict:
    """A ninth for each of its values of the constant; it cannot do with less than ten."""
    return {"max_iterations": max(num // 9, 10)}


def _alma(num: int) -> dict:
    """Its authors smooth less where steps are few; the option's name is the Greek letter."""
    return {"num_steps": num, "\N{GREEK SMALL LETTER ALPHA}": 0.5 if num < 500 else 0.9}


def peers(far: bool) -> dict[str, Peer]:
    """All of them, by name; `far` where boundaries are a norm of 1 or more away."""
    size = 3.0 if far else 0.3
    alpha = "\N{GREEK SMALL LETTER ALPHA}_init"

    def tunings(what: str, option: str, *values: float) -> dict[str, dict]:
        return {f"{what} {value:g}": {option: value} for value in values}

    return {
        "DDN": Peer(
            _of_adv_lib("ddn", levels=None),  # levels: nobody else rounds to 256
            tunings("first norm", "init_norm", 1.0, size), _steps("steps"),
        ),
        "FMN": Peer(
            _of_adv_lib("fmn", norm=2), tunings("step", alpha, 1.0, size), _steps("steps"),
        ),
        "ALMA": Peer(
            _of_adv_lib("alma", distance="l2"),
            tunings("first distance", "init_lr_distance", 0.1, size), _alma,
        ),
        "PDGD": Peer(
            _of_adv_lib("pdgd"), tunings("rate", "primal_lr", 0.1, 0.03), _steps("num_steps"),
        ),
        "C&W": Peer(
            _of_adv_lib("carlini_wagner_l2"), tunings("rate", "learning_rate", 0.01, 0.1), _carlini,
        ),
        "foolbox DDN": Peer(
            _foolbox_ddn, tunings("first norm", "init_epsilon", 1.0, size), _steps("steps"),
        ),
        "APGD_t": Peer(
            _apgd_t,
            {f"{num} steps": {"n_iter": num, "max_eps": size, "num_targets": 9}
             for num in (20, 100)},
            targets=False,
        ),
        "FAB": Peer(_of_adv_lib("fab", norm=2), {"": {"n_iter": 2000}}, targets=False),
        "SuperDeepFool": Peer(_of_adv_lib("sdf"), {"": {}}, targets=False),
        "trust region": Peer(
            _of_adv_lib("tr", p=2),
            {"": {"iter": 2000}, "adaptive": {"iter": 2000, "adaptive": True}}, targets=False,
        ),
    }  # fmt: skip


def run(peer: Peer, model, images, labels, targeted: bool, seed: int, **options) -> None:
    """Runs the attack until it ends or has spent its evaluations; `model` knows what it found."""
    torch.manual_seed(seed)
    with contextlib.suppress(Spent):
        peer.run(model, images.clone(), labels, targeted, **options)
