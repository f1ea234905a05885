"""The console: HTML pages over the same services as the JSON API, one module per noun.

Out:   register(app).
Laws:  1. A page that works with scripts off works; htmx only swaps blocks of the same pages. 2. No page knows a rule:
       what is refused is refused by the services.
Not here: templates/, static/ (markup, styles, behaviours).
"""

from __future__ import annotations

from flask import Flask

from webapp.console.forms import label, sentence
from webapp.console.rendering import FILTERS


def register(app: Flask) -> None:
    """Put the console's pages on an application whose template and static folders are the project's."""
    from webapp.console import api_keys, cache, config, origins, overview, routes, session
    from webapp.console.access import blueprint, refused

    assert all((api_keys, cache, config, origins, overview, routes, session))  # imported for their pages
    app.jinja_env.filters.update(FILTERS, label=label, sentence=sentence)
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.register_blueprint(blueprint)
    app.extensions["vantageedge.error_page"] = refused
