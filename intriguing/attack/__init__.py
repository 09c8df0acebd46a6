"""The smallest perturbations of a batch of images that make a network say what is wanted."""

from intriguing.attack.baselines import amplify, gaussian_noise
from intriguing.attack.batch import attack_batch
from intriguing.attack.budget import describe
from intriguing.attack.goals import from_margin
from intriguing.attack.minimal import minimal_perturbation
from intriguing.attack.problem import AttackOptions, Problem
from intriguing.attack.result import AttackResult, AttackStatus, smaller
from intriguing.attack.saved import RobustnessCurve, load, robustness_curve, save
from intriguing.attack.solve import problem_of, solve
from intriguing.attack.targets import choose_targets

__all__ = [
    "AttackOptions",
    "AttackResult",
    "AttackStatus",
    "Problem",
    "RobustnessCurve",
    "amplify",
    "attack_batch",
    "choose_targets",
    "describe",
    "from_margin",
    "gaussian_noise",
    "load",
    "minimal_perturbation",
    "problem_of",
    "robustness_curve",
    "save",
    "smaller",
    "solve",
]
