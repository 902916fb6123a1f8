"""Page: see :mod:`configurator.app.purchase`."""

from configurator.app.purchase import page

page()
