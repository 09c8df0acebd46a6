"""The files of a run: its workdir, its shards of arrays."""

from intriguing.runs.workdir import append_metrics, check_workdir, read_metrics, write_summary

__all__ = [
    "append_metrics",
    "check_workdir",
    "read_metrics",
    "write_summary",
]
