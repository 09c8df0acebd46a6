"""Minimal adversarial perturbations in JAX: "Intriguing properties of neural networks" (2013).

Rooms and the functions most used by others; each is imported when it is first asked for, so that
`import intriguing` alone costs nothing: no network library, no device.
"""

import importlib

_ROOMS = (
    *("analysis", "attack", "data", "experiments", "models", "report", "runs", "solver"),
    "training",
)
_FUNCTIONS = {  # public name -> the module that has it
    "AttackResult": "attack",
    "AttackStatus": "attack",
    "InputError": "errors",
    "attack_batch": "attack",
    "choose_targets": "attack",
    "gaussian_noise": "attack",
    "minimal_perturbation": "attack",
    "transfer_table": "analysis.transfer",
}
__all__ = sorted((*_ROOMS, *_FUNCTIONS))


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f"intriguing.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"intriguing.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'intriguing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
