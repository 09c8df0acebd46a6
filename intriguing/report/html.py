"""report.html: tables, figures, claims and facts of a run on one page that needs nothing else."""

import base64
import math
import os
import string
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from intriguing import atomic
from intriguing.errors import InputError
from intriguing.report.tables import Claim, Table, packaged, two_lines


def write_report(
    workdir: str | os.PathLike,
    title: str,
    tables: Sequence[Table],
    figures: Sequence[tuple[str | os.PathLike, str]],
    facts: Mapping[str, str],
    claims: Sequence[Claim] = (),
    notice: str = "",
) -> None:
    """Write workdir/report.html, one page that needs no other file and no network.

    Args:
      workdir: folder of the run.
      title: heading of the page.
      tables: shown in order, each with its note and the paper's figures beneath ours.
      figures: (path of a PNG file, caption), shown after the tables.
      facts: name -> value: command, versions, device, seconds; shown last.
      claims: shown first.
      notice: above all of it: what the reader must know.

    Raises:
      InputError: a figure cannot be read, or the page cannot be written.
    """
    body = [_html_claims(claims)] if claims else []
    body += [_html_table(table) for table in tables]
    body += [_html_figure(Path(path), caption) for path, caption in figures]
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    page = string.Template(packaged("report_page.html"))
    page = page.substitute(
        title=escape(title), notice=f'<p class="notice">{escape(notice)}</p>' if notice else "",
        body="\n".join(body), facts=items,
    )  # fmt: skip
    atomic.write_atomic(Path(workdir) / "report.html", page)


def _html_claims(claims: Sequence[Claim]) -> str:
    items = []
    for claim in claims:
        text, measured = escape(claim.text), escape(claim.measured)
        items.append(f"<li><b>{claim.verdict.lower()}</b>: {text} <small>{measured}</small></li>")
    return f"<section><h2>What was claimed, and what is so</h2><ul>{''.join(items)}</ul></section>"


def _html_table(table: Table) -> str:
    headings = ("<br>".join(map(escape, filter(None, two_lines(h)))) for h in table.headings)
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    # Columns named like rows make a matrix (made for, error induced in): only its cells are tinted.
    tinted = [column in table.rows for column in table.columns]
    rows = []
    for row, values in table.rows.items():
        cells = "".join(map(_html_cell, table.cells(row), values, tinted))
        rows.append(f'<tr><th scope="row">{escape(row)}</th>{cells}</tr>')
    below = ""
    if table.legend:
        below += f"<p>In grey beneath ours: the paper's figures ({escape(table.paper_data)}).</p>"
    if table.note:
        below += f"<p>{escape(table.note)}</p>"
    return (
        f'<section><div class="scroll" tabindex="0"><table><caption><span>{escape(table.title)}'
        f"</span></caption><thead><tr><td></td>{head}</tr></thead><tbody>\n"
        + "\n".join(rows)
        + f"\n</tbody></table></div>{below}</section>"
    )


def _html_cell(texts: tuple[str, str], value: float | None, tinted: bool) -> str:
    ours, paper = texts
    measured = value is not None and math.isfinite(value)
    style = f' style="--share:{100 * value:.1f}%"' if tinted and measured else ""
    beneath = f"<small><i>paper </i>{escape(paper)}</small>" if paper else ""
    return f"<td{style}>{escape(ours)}{beneath}</td>"


def _html_figure(path: Path, caption: str) -> str:
    try:
        png = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read figure {path}: {error.strerror}; draw it again") from error
    width = int.from_bytes(png[16:20], "big")  # of the PNG header: never enlarge, it would blur
    wide = ' class="wide"' if width > 720 else ""  # on a phone: scroll, rather than tiny letters
    data = base64.b64encode(png).decode()
    caption = escape(caption)
    return (
        f'<figure><div class="scroll" tabindex="0"><img{wide} width="{width}" '
        f'alt="{caption}" src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
