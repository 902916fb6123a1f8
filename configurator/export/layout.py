"""Where the copies of a model run: on one host, beside each other on several, or across hosts."""

from __future__ import annotations

from dataclasses import dataclass

from configurator.estimate import Estimate
from configurator.export.shell import note
from configurator.parallelism import HOST_GPUS


@dataclass(frozen=True)
class Layout:
    """Copies of a model over hosts.

    Attributes:
        cards: Of one copy; of all of them where experts span the copies' ranks.
        copies: Started each by a command of its own, or all of a host by one.
        here: Copies on one host; 0 where a copy spans several.
        hosts: In all.
    """

    cards: int
    copies: int
    here: int
    hosts: int

    @property
    def span(self) -> int:
        """Hosts of one copy."""
        return -(-self.cards // HOST_GPUS)

    def hint(self, language: str) -> str:
        """Say where and how often the command runs; empty for one command on one host."""
        if not self.here:
            if self.copies == 1:
                return ""
            return note("code.copies_apart", language, copies=self.copies)
        if self.hosts == 1:
            return ""
        key = "code.copies_on_hosts_most" if self.copies % self.here else "code.copies_on_hosts"
        return note(key, language, hosts=self.hosts, here=self.here, copies=self.copies)


def spread(answer: Estimate) -> bool:
    """Whether experts span more ranks than attention: data-parallel attention in one group."""
    return answer.split.expert > answer.split.tensor


def layout_of(answer: Estimate) -> Layout:
    """Return where the copies of an answer's model run."""
    copies = 1 if spread(answer) else answer.split.data
    cards = answer.split.gpus // copies
    here = min(copies, HOST_GPUS // cards)
    hosts = -(-copies // here) if here else copies * -(-cards // HOST_GPUS)
    return Layout(cards, copies, here, hosts)


def each_copy(layout: Layout, line: str) -> str:
    """Return a command run once for each copy on a host, each on its own cards and port.

    Args:
        layout: Copies and their cards.
        line: The command; ``$copy`` counts from 0.
    """
    if layout.here <= 1:
        return line
    return (
        f"for copy in $(seq 0 {layout.here - 1}); do\n"
        f"first=$((copy * {layout.cards}))\n"
        f'CUDA_VISIBLE_DEVICES="$(seq -s , "$first" $((first + {layout.cards - 1})))" \\\n'
        f"{line} &\ndone\nwait"
    )
