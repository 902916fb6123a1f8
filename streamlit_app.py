"""The page's entry: page config, navigation, nothing else."""

from configurator.app.shell import run

run()
