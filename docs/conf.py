# SPDX-License-Identifier: MIT
"""Configuration of the documentation, which is built with warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import prefork

sys.path.insert(0, str(Path(__file__).parent))

import tables

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "prefork"
author = "the prefork authors"
copyright = "the prefork authors"
version = release = prefork.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "reference/generated"]
html_theme = "furo"
html_title = f"prefork {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False}
# What signatures name without a page of ours or an inventory that a build off the network could load.
nitpick_ignore_regex = [("py:.*", r".*")]


def setup(app: Sphinx) -> None:
    """Write the tables of the code as pages before Sphinx reads the sources."""
    app.connect("builder-inited", lambda app: tables.write(Path(app.srcdir, "reference", "generated")))
