"""Page: see :mod:`configurator.app.techniques_page`."""

from configurator.app.techniques_page import page

page()
