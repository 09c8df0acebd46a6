"""Box-constrained L-BFGS, batched; knows nothing of images or networks.

Each name is imported when it is first asked for: jaxopt, which the attack's own search does
without, takes half a second.
"""

import importlib

__all__ = ["BatchedLBFGSB", "Solution", "Status", "minimize_box"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'intriguing.solver' has no attribute {name!r}")
    return getattr(importlib.import_module("intriguing.solver.box_lbfgs"), name)
