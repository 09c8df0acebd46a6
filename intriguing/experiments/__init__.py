"""The table of contents: one function per paper result, (config, workdir, mesh) -> summary."""

import json
from pathlib import Path

from intriguing import results, sharding
from intriguing.errors import InputError
from intriguing.experiments.build import check_config, versions
from intriguing.experiments.cross_model import cross_model
from intriguing.progress import logger

EXPERIMENTS = {
    "cross_model": cross_model,  # tables 1 and 2, figure 7
}


def run_experiment(config, workdir: Path, num_devices: int | None = None) -> dict:
    """Runs `config.experiment` in `workdir`, resuming what is there; returns its summary.

    Raises:
      InputError: a user's mistake, in one line.
    """
    if config.experiment not in EXPERIMENTS:
        known = ", ".join(EXPERIMENTS)
        raise InputError(f'config.experiment is "{config.experiment}": it must be one of {known}')
    check_config(config)
    # Through JSON: a tuple that was read back from config.json must compare equal.
    results.check_workdir(workdir, json.loads(config.to_json()))
    sharding.use_cores(num_devices)
    mesh = sharding.make_mesh(num_devices)
    logger.info("%s in %s, %s", config.experiment, workdir, versions())
    return EXPERIMENTS[config.experiment](config, workdir, mesh)
