"""The files of a run: its workdir, its shards of arrays."""

from intriguing.runs.lock import held
from intriguing.runs.results import Results, load_results, result_folders
from intriguing.runs.workdir import append_metrics, check_workdir, create_workdir, read_metrics

__all__ = [
    "Results",
    "append_metrics",
    "check_workdir",
    "create_workdir",
    "held",
    "load_results",
    "read_metrics",
    "result_folders",
]
