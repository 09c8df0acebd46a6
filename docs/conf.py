"""The documentation site: make docs builds it, warnings are errors; nothing on it is fetched."""

import os
import sys
import tomllib
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)  # of the notebooks' kernels
project = "intriguing"
author = "The intriguing authors"
copyright = f"2026 {author}"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "intriguing"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "source_repository": "",
    "light_css_variables": {"color-brand-primary": "#2f5d8a", "color-brand-content": "#2f5d8a"},
    "dark_css_variables": {"color-brand-primary": "#7ab0e2", "color-brand-content": "#7ab0e2"},
}
html_show_sphinx = False

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing", "myst.header"]  # of included pages: links between files
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 70
napoleon_custom_sections = [("Fields", "params_style")]
napoleon_use_rtype = False
default_role = "code"


def _visit(display: str):
    def visit(translator, node) -> None:
        translator.body.append(convert(node.astext(), display=display))
        raise nodes.SkipNode  # its text is what was converted

    return visit


def setup(app) -> None:
    """Equations become MathML, which browsers draw by themselves: no script, no fonts."""
    app.add_html_math_renderer("mathml", (_visit("inline"), None), (_visit("block"), None))


html_math_renderer = "mathml"
