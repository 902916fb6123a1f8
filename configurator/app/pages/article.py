"""Page: see :mod:`configurator.app.answers`."""

from configurator.app.answers import page

page()
