"""Tables, claims and pages: what people read of a run."""

from intriguing.report.tables import (
    Claim,
    Table,
    claims_to_markdown,
    format_cell,
    format_spread,
    merge_summary,
    packaged,
    paper_table,
    to_csv,
    to_markdown,
    to_text,
    two_lines,
    write_tables,
)

__all__ = [
    "Claim",
    "Table",
    "claims_to_markdown",
    "format_cell",
    "format_spread",
    "merge_summary",
    "packaged",
    "paper_table",
    "to_csv",
    "to_markdown",
    "to_text",
    "two_lines",
    "write_tables",
]
