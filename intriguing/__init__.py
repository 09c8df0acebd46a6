"""Minimal adversarial perturbations in JAX: "Intriguing properties of neural networks" (2013).

Rooms and the functions most used by others; each is imported when it is first asked for, so that
`import intriguing` alone costs nothing: no network library, no device.
"""

import importlib
from importlib import metadata as _metadata

_ROOMS = (
    *("analysis", "attack", "data", "experiments", "models", "plots", "report", "runs", "solver"),
    *("torch", "training"),
)
_MODULES = {"lipschitz": "analysis.lipschitz"}  # public name -> the module that it is
_FUNCTIONS = {  # public name -> the module that has it
    "AttackOptions": "attack",
    "AttackResult": "attack",
    "AttackStatus": "attack",
    "BatchedLBFGSB": "solver",
    "InputError": "errors",
    "amplify": "attack",
    "attack_batch": "attack",
    "certified_radius": "analysis.lipschitz",
    "choose_targets": "attack",
    "coherence": "analysis.units",
    "from_margin": "attack",
    "gaussian_noise": "attack",
    "lipschitz_bound": "analysis.lipschitz",
    "load": "attack",
    "load_results": "runs",
    "minimal_perturbation": "attack",
    "operator_norm": "analysis.lipschitz",
    "problem_of": "attack",
    "robustness_curve": "attack",
    "save": "attack",
    "solve": "attack",
    "top_images": "analysis.units",
    "transfer_table": "analysis.transfer",
}
_EXTRAS = {  # what a missing library comes with
    **dict.fromkeys(("flax", "optax", "orbax", "safetensors", "ml_dtypes"), "train"),
    **dict.fromkeys(("PIL", "sklearn", "tensorflow_datasets", "pooch", "requests"), "data"),
    "matplotlib": "plots",
    "torch": "torch",
    **dict.fromkeys(("pydantic", "ml_collections", "absl"), "all"),
}
__all__ = sorted((*_ROOMS, *_MODULES, *_FUNCTIONS))


def __getattr__(name: str):
    if name == "__version__":
        return _metadata.version("intriguing")
    try:
        if name in _ROOMS or name in _MODULES:
            return importlib.import_module(f"intriguing.{_MODULES.get(name, name)}")
        if name in _FUNCTIONS:
            return getattr(importlib.import_module(f"intriguing.{_FUNCTIONS[name]}"), name)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise ModuleNotFoundError(
            f'intriguing.{name} needs {error.name}: pip install "intriguing[{extra}]"',
            name=error.name,
        ) from error
    raise AttributeError(f"module 'intriguing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
