"""Page: see :mod:`configurator.app.evidence`."""

from configurator.app.evidence import page

page()
