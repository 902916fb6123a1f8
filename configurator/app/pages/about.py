"""Page: see :mod:`configurator.app.about`."""

from configurator.app.about import page

page()
