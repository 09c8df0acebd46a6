"""The table of contents, and what happens around each experiment."""

import contextlib
import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import jax

from intriguing import fetch, processes, runs, sharding
from intriguing.errors import InputError
from intriguing.experiments import settings as _settings
from intriguing.experiments.adversarial import adversarial_training
from intriguing.experiments.cars import quocnet_attack
from intriguing.experiments.check import check_settings
from intriguing.experiments.cross_model import cross_model
from intriguing.experiments.cross_training_set import cross_training_set
from intriguing.experiments.outcome import versions, write_outcome
from intriguing.experiments.spectral import spectral_analysis
from intriguing.experiments.targeted import targeted_attack
from intriguing.experiments.unit_analysis import unit_analysis
from intriguing.experiments.unit_stream import streamed_units
from intriguing.progress import logger

EXPERIMENTS = {
    "cross_model": cross_model,  # tables 1 and 2, figure 7
    "cross_training_set": cross_training_set,  # tables 3 and 4
    "adversarial_training": adversarial_training,  # section 4.2, beside other regularisers
    "unit_analysis": unit_analysis,  # figures 1 and 2
    "streamed_units": streamed_units,  # figures 3 and 4
    "targeted_attack": targeted_attack,  # figure 5
    "quocnet_attack": quocnet_attack,  # figure 6
    "spectral_analysis": spectral_analysis,  # table 5
}


def keep_compilations() -> None:
    """Keeps compiled programs in the user's cache folder, for later runs.

    `JAX_COMPILATION_CACHE_DIR` names another folder. Nothing is kept where none can be written.
    """
    if jax.config.jax_compilation_cache_dir is not None:
        return
    folder = fetch.cache_dir() / "xla"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))


def run_experiment(
    config, workdir: Path, num_devices: int | None = None, command: str = "",
    team: processes.Team | None = None,
) -> dict:  # fmt: skip
    """Runs `config.experiment` in `workdir`, resuming what is there; returns its summary.

    Args:
      config: a nested mapping (a ConfigDict, for one), or settings that were read from one.
      workdir: where everything goes; of several processes, a folder that all of them see.
      num_devices: how many of this process's devices to use (default: all).
      command: what the report says that it was made by.
      team: how this process finds those that share the work; None: it is alone.

    Raises:
      InputError: a user's mistake, in one line.
    """
    settings = config
    if not isinstance(config, _settings.Experiment):
        nested = config.to_dict() if hasattr(config, "to_dict") else config
        settings = _settings.read(nested if isinstance(nested, Mapping) else {})
    check_settings(settings)
    sharding.use_cores(num_devices)
    sharding.use_float32()
    if team is not None:
        processes.join(team)
    with contextlib.ExitStack() as stack:
        error = None
        try:
            if processes.index() == 0:
                _enter(stack, settings, workdir, command)
        except InputError as found:
            error = found
        processes.agree(error)
        own = stack.enter_context(processes.own_workdir(workdir))
        if processes.index():
            logger.setLevel(logging.WARNING)
            stack.enter_context(contextlib.redirect_stdout(None))
        summary = _run(settings, own, num_devices, command)
        processes.wait("the end")
        return summary


def _enter(stack: contextlib.ExitStack, settings, workdir: Path, command: str) -> None:
    """Makes the workdir this run's, for as long as the stack lasts."""
    runs.create_workdir(workdir)
    stack.enter_context(runs.held(workdir, command))
    # Through JSON: a tuple that was read back from config.json must compare equal.
    runs.check_workdir(workdir, json.loads(json.dumps(dataclasses.asdict(settings))))


def _run(settings, workdir: Path, num_devices: int | None, command: str) -> dict:
    """Runs it on the devices, and writes what comes out."""
    shares_weights = isinstance(settings, _settings.QuocnetAttack)
    model_devices = settings.model_devices if shares_weights else 1
    mesh = sharding.make_mesh(num_devices, model_devices or None)
    logger.info("%s in %s, %s", settings.experiment, workdir, versions())
    with sharding.using(mesh):
        outcome = EXPERIMENTS[settings.experiment](settings, workdir, mesh)
    return write_outcome(settings, workdir, outcome, command)
