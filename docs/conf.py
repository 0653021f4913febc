"""How Sphinx makes the site. `nls site` gathers the sources; nothing that a page needs is fetched from a network."""

import json
import re
from html import escape

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

project = "To smooth or not, reproduced"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_*", "figures/*.md"]  # parts of pages
nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # what a cell displays, as the text of its page: with tables and formulas
suppress_warnings = ["toc.no_title", "misc.highlighting_failure"]  # notebooks of others, and tracebacks
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
default_role = "py:obj"
autodoc_typehints = "none"  # docstrings give shapes and units, which types do not
napoleon_use_ivar = True  # attributes as a list
add_module_names = False
html_theme = "pydata_sphinx_theme"
html_title = "To smooth or not"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_theme_options = {"header_links_before_dropdown": 7, "secondary_sidebar_items": ["page-toc"]}
html_sidebars = {page: [] for page in ("index", "findings", "which_rate", "figures", "records", "status", "api")}
html_math_renderer = "mathml"
html_copy_source = False
html_show_search_summary = False  # it would be fetched, which browsers refuse to pages of a folder


# Spaces as TeX has them, where latex2mathml leaves them to the browser: infinity is no operator, a slash stands close,
# a sign is no operation, log keeps off, a tilde sits on its letter.
SPACING = {
    r"<mo>&#x0221E;</mo>": "<mi>&#x0221E;</mi>",
    r"<mo>&#x0002F;</mo>": '<mo lspace="0" rspace="0">/</mo>',
    r"(&#x00028;|\[|&#x0003D;|&#x0002C;)</mo><mo>(&#x02212;|&#x0002B;)": r'\1</mo><mo form="prefix">\2',
    r"(</m[in]>)(<mi>[a-z]{2,}</mi>)": r'\1<mspace width=".17em" />\2',
    r"(<mi>[a-z]{2,}</mi>)(?=<m[in])": r'\1<mspace width=".17em" />',
    r'<mover>(<mi>.</mi><mo stretchy="false">&#x0007E;)': r'<mover accent="true">\1',
}


def mathml(page, node) -> None:
    """Write a formula as MathML, so that no script has to."""
    latex = node.astext()
    try:
        html = convert(latex, display="block" if isinstance(node, nodes.math_block) else "inline")
        if "\\" in html:
            raise ValueError("a command that is not known")
    except Exception as error:  # its errors have no common base
        logging.getLogger(__name__).warning("no formula: %s (%r)", latex, error, location=node)
        html = f"<code>{escape(latex)}</code>"
    for found, better in SPACING.items():
        html = re.sub(found, better, html)
    page.body.append(f'<div class="math">{html}</div>' if isinstance(node, nodes.math_block) else html)
    raise nodes.SkipNode


def notebook(app, docname: str, source: list[str]) -> None:
    """Fold the code of a notebook; its figures get a name to link to, and links to their files."""
    if not docname.startswith("notebooks/"):
        return
    content = json.loads(source[0])
    for cell in content["cells"]:
        code, meta = "".join(cell["source"]), cell["metadata"]
        meta.setdefault("tags", []).append("hide-input")
        cell["source"] = code.removeprefix("# NBVAL_CHECK_OUTPUT\n")  # says something to the tests only
        if saved := re.search(r'save_figure\(\s*\w+,\s*"(\w+)"', code):
            there = [k for k in ("svg", "csv") if (app.srcdir / "figures" / f"{saved[1]}.{k}").exists()]
            files = " · ".join(f"{{download}}`{kind.upper()} <../figures/{saved[1]}.{kind}>`" for kind in there)
            alt = f"Figure: {saved[1][3:].replace('_', ' ')}"
            meta["mystnb"] = {"image": {"alt": alt}, "figure": {"name": saved[1], "caption": files or alt}}
    # A notebook that failed also has papermill's own words at its top.
    content["cells"] = [c for c in content["cells"] if "papermill-error-cell-tag" not in c["metadata"]["tags"]]
    source[0] = json.dumps(content)


def keep_outputs(app) -> None:
    """Where MyST-NB puts images before Sphinx copies them: beside the site otherwise."""
    app.env.mystnb_config = app.env.mystnb_config.copy(output_folder=str(app.doctreedir / "outputs"))


def setup(app) -> None:
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("source-read", notebook)
    app.connect("builder-inited", keep_outputs, priority=900)
