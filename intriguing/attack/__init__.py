"""The smallest perturbations of a batch of images that make a network say what is wanted."""

from intriguing.attack.baselines import amplify, gaussian_noise
from intriguing.attack.minimal import (
    AttackResult,
    AttackStatus,
    attack_batch,
    minimal_perturbation,
    smaller,
)
from intriguing.attack.problem import AttackOptions, Problem
from intriguing.attack.targets import choose_targets

__all__ = [
    "AttackOptions",
    "AttackResult",
    "AttackStatus",
    "Problem",
    "amplify",
    "attack_batch",
    "choose_targets",
    "gaussian_noise",
    "minimal_perturbation",
    "smaller",
]
