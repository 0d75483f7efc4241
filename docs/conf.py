"""Settings of Sphinx; `drg docs` (drg_lib.site.site) first adds pages from runs, results and modules."""

import configparser
import json
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = Path(os.environ.get("DRG_LIB_ROOT", HERE.parent))
settings = configparser.ConfigParser()
settings.read(ROOT / "settings.ini", encoding="utf-8")
made = json.loads((HERE / "site.json").read_text(encoding="utf-8")) if (HERE / "site.json").is_file() else {}

sys.modules.setdefault("rfc3987_syntax", None)  # see drg_lib.reporting.scraps.skip_slow_import
project, author = "drg_lib", settings["DEFAULT"]["author"]
release = version = settings["DEFAULT"]["version"]
copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_design", "sphinx_copybutton"]
exclude_patterns = ["extra", "explorer", "pictures/*.html", "_build", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # docstrings name types in words

# Executed notebooks are shown as they are. Names in data and cards are text: no HTML in Markdown anywhere.
nb_execution_mode = "off"
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"
nb_ipywidgets_js = {}
myst_enable_extensions = ["colon_fence", "deflist"]
myst_disable_syntax = ["html_block", "html_inline"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # cards inside a report begin below its own headings

# Docstrings are numpydoc; a word in single backticks is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = napoleon_use_param = False

copybutton_prompt_text, copybutton_prompt_is_regexp = r"\$ |>>> |\.\.\. ", True

html_theme = "pydata_sphinx_theme"
html_title = "drg_lib"
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["extra"] if (HERE / "extra").is_dir() else []
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "search": [], "genindex": []}
html_theme_options = {
    "logo": {"text": "drg_lib"},
    "navbar_center": ["navbar-nav", *(["explorer-link"] if made.get("explorer") else [])],
    "navbar_end": ["theme-switcher"],
    "navbar_align": "left",
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_center": [],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def plain_docstring(app, what, name, obj, options, lines):
    """Signs in a docstring are signs and not markup: |error|, w_*, lag_."""
    for i, line in enumerate(lines):
        if "`" not in line and not line.startswith((".. ", ":", "*")):
            lines[i] = re.sub(r"[|*]|(?<=\w)_(?=\W|$)", r"\\\g<0>", line)


def skip_inherited(app, what, name, obj, skip, options):
    """scikit-learn adds methods of its own to an estimator, with its own documentation."""
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app):
    """Connect the two functions above to autodoc."""
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)
    app.connect("autodoc-skip-member", skip_inherited)
