"""Page: see :mod:`configurator.app.machine`."""

from configurator.app.machine import page

page()
