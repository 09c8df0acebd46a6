"""One experiment per paper result: settings, and a function (settings, workdir, mesh) -> Outcome.

Each name is imported when it is first asked for: a config needs the settings, and no network.
"""

import importlib

_WHERE = {"EXPERIMENTS": "run", "keep_compilations": "run", "run_experiment": "run"}
__all__ = ["EXPERIMENTS", "keep_compilations", "run_experiment"]


def __getattr__(name: str):
    if name not in _WHERE:
        raise AttributeError(f"module 'intriguing.experiments' has no attribute {name!r}")
    return getattr(importlib.import_module(f"intriguing.experiments.{_WHERE[name]}"), name)
