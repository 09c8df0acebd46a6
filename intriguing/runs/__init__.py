"""The files of a run: its workdir, its shards of arrays."""

from intriguing.runs.results import Results, load_results
from intriguing.runs.workdir import append_metrics, check_workdir, read_metrics, write_summary

__all__ = [
    "Results",
    "append_metrics",
    "check_workdir",
    "load_results",
    "read_metrics",
    "write_summary",
]
