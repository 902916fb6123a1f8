"""Page: see :mod:`configurator.app.planner`."""

from configurator.app.planner import page

page()
