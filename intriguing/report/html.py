"""report.html: tables, figures, claims and facts of a run on one page that needs nothing else."""

import base64
import math
import os
import string
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from intriguing import atomic
from intriguing.errors import InputError
from intriguing.report import gallery
from intriguing.report.tables import Claim, Table, packaged, two_lines

# What a run leaves beside its report.
BESIDE = (
    *("summary.json", "config.json", "metrics.jsonl"),
    *("tables", "figures", "adversarial", "results", "checkpoints"),
)


def write_report(
    workdir: str | os.PathLike,
    title: str,
    tables: Sequence[Table],
    figures: Sequence[gallery.Picture],
    facts: Mapping[str, str],
    claims: Sequence[Claim] = (),
    notice: str = "",
) -> None:
    """Write workdir/report.html, one page that needs no other file and no network.

    It links to the files beside it, as far as they are there.

    Args:
      workdir: folder of the run.
      title: heading of the page.
      tables: shown in order, each with its note and the paper's figures beneath ours.
      figures: shown after the tables.
      facts: name -> value: command, versions, device, seconds; shown last.
      claims: shown first.
      notice: above all of it: what the reader must know.

    Raises:
      InputError: a figure cannot be read, or the page cannot be written.
    """
    workdir = Path(workdir)
    body = [_html_claims(claims)] if claims else []
    body += [_html_table(table, _link(workdir, f"tables/{table.name}.csv")) for table in tables]
    for number, picture in enumerate(figures):
        link = _link(workdir, os.path.relpath(picture.path, workdir))
        body.append(
            gallery.to_html(picture, number, link) if picture.tiles else _html_figure(picture, link)
        )
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    links = " ".join(filter(None, (_link(workdir, name) for name in BESIDE)))
    items += f"<dt>beside this page</dt><dd>{links}</dd>" if links else ""
    page = string.Template(packaged("report_page.html"))
    page = page.substitute(
        title=escape(title), notice=f'<p class="notice">{escape(notice)}</p>' if notice else "",
        body="\n".join(body), facts=items,
    )  # fmt: skip
    atomic.write_atomic(workdir / "report.html", page)


def _link(workdir: Path, name: str) -> str:
    """To a file or folder beside the page; "" if it is not there."""
    if not (workdir / name).exists():
        return ""
    return f'<a href="{escape(quote(name))}">{escape(name)}</a>'


def _html_claims(claims: Sequence[Claim]) -> str:
    items = []
    for claim in claims:
        text, measured = escape(claim.text), escape(claim.measured)
        items.append(f"<li><b>{claim.verdict.lower()}</b>: {text} <small>{measured}</small></li>")
    return f"<section><h2>What was claimed, and what is so</h2><ul>{''.join(items)}</ul></section>"


def _html_table(table: Table, link: str) -> str:
    headings = table.headings
    head = "".join(
        f'<th scope="col"><button type="button">{_html_heading(heading)}</button></th>'
        for heading in headings
    )
    # Columns named like rows make a matrix (made for, error induced in): only its cells are tinted.
    tinted = [column in table.rows for column in table.columns]
    rows = []
    for row, values in table.rows.items():
        cells = "".join(map(_html_cell, table.cells(row), values, headings, tinted))
        rows.append(f'<tr><th scope="row">{escape(row)}</th>{cells}</tr>')
    below = ""
    if table.legend:
        below += f"<p>In grey beneath ours: the paper's figures ({escape(table.paper_data)}).</p>"
    if table.note or link:
        below += f"<p>{escape(table.note)} {link}</p>"
    return (
        f'<section><div class="scroll"><table><caption>{escape(table.title)}'
        f"</caption><thead><tr><td></td>{head}</tr></thead><tbody>\n"
        + "\n".join(rows)
        + f"\n</tbody></table></div>{below}</section>"
    )


def _html_heading(heading: str) -> str:
    upper, lower = two_lines(heading)
    space = " " if f"{upper} {lower}" == heading else ""  # where a phone has both on one line
    return f"{escape(upper)}{space}<br>{escape(lower)}" if upper else escape(lower)


def _html_cell(texts: tuple[str, str], value: float | None, heading: str, tinted: bool) -> str:
    ours, paper = texts
    measured = value is not None and math.isfinite(value)
    style = f' style="--share:{100 * value:.1f}%"' if tinted and measured else ""
    known = value is not None and not math.isnan(value)
    raw = repr(float(value)).replace("inf", "Infinity") if known else ""  # as JavaScript reads it
    beneath = f"<small><i>paper </i>{escape(paper)}</small>" if paper else ""
    column = f'data-column="{escape(heading)}" data-value="{raw}"'
    return f"<td {column}{style}>{escape(ours)}{beneath}</td>"


def _html_figure(picture: gallery.Picture, link: str) -> str:
    path, caption = Path(picture.path), escape(picture.caption)
    try:
        png = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read figure {path}: {error.strerror}; draw it again") from error
    width = int.from_bytes(png[16:20], "big")  # of the PNG header: never enlarge, it would blur
    data = base64.b64encode(png).decode()
    return (
        f'<figure><button type="button" class="zoom" aria-label="full size, or as wide as the '
        f'page"><img width="{width}" alt="{caption}" src="data:image/png;base64,{data}"></button>'
        f"<figcaption>{caption} {link}</figcaption></figure>"
    )
