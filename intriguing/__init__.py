"""Minimal adversarial perturbations in JAX: "Intriguing properties of neural networks" (2013).

The functions most used by others; every module can be imported on its own too.
"""

from intriguing.attack import AttackResult, AttackStatus, attack_batch, minimal_perturbation
from intriguing.errors import InputError
from intriguing.targets import choose_targets
from intriguing.transfer import gaussian_noise, transfer_table

__all__ = [
    "AttackResult",
    "AttackStatus",
    "InputError",
    "attack_batch",
    "choose_targets",
    "gaussian_noise",
    "minimal_perturbation",
    "transfer_table",
]
