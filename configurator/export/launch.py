"""Code that runs an answered scenario: everything follows from its scenario and split."""

from __future__ import annotations

from configurator.estimate import Estimate
from configurator.export.serving import serving_files
from configurator.export.shell import Artifact
from configurator.export.training import training_files


def artifacts(answer: Estimate, language: str = "en") -> tuple[Artifact, ...]:
    """Return the files that run an answered scenario, the one to start with first.

    None where the engine does not run on the card or cannot split the model so: the answer's
    warnings say why.

    Args:
        answer: Of :func:`configurator.estimate.estimate`; its engine decides what is made.
        language: Of comments and messages in the code: ``en`` or ``zh``.
    """
    if answer.cannot_run is not None:
        return ()
    make = training_files if answer.scenario.is_training else serving_files
    return make(answer, language)
