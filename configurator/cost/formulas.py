"""What owning and renting cost: pure functions on numbers, ranges and arrays that broadcast.

Money is US dollars unless the name says otherwise; power watts; time years, months or hours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from configurator.cost.ranges import Range
from configurator.units import HOURS_PER_YEAR

MONTHS_PER_YEAR = 12
DAYS_PER_YEAR = HOURS_PER_YEAR / 24
SECONDS_PER_YEAR = HOURS_PER_YEAR * 3600


# Published shares of staff in all cost do not say over how many years the purchase counts; three
# are what this product compares by (assumed).
WRITE_OFF_YEARS = 3


def nodes(cards: Any, slots: Any) -> Any:
    """Return hosts that hold the cards."""
    return np.ceil(np.asarray(cards) / slots)


def bought(cards: Any, step: Any, owned: Any = 0) -> Any:
    """Return cards to buy: what is needed beyond those owned, in the step they are sold in."""
    return np.ceil(np.maximum(np.asarray(cards) - owned, 0) / step) * step


def racked(need: int, owned: int, slots: int, step: int, ports: float) -> tuple[int, ...]:
    """Return cards bought, cards installed, hosts, hosts bought and switches.

    Own cards that do not save a step of the new ones stay out.

    Args:
        need: Cards in use and spare.
        owned: Cards that are there.
        slots: Cards that a host takes.
        step: Number that cards are sold in.
        ports: Of a switch.
    """
    new = int(bought(need, step, owned))
    installed = max(need, new)
    hosts = int(nodes(installed, slots))
    return new, installed, hosts, int(nodes(new, slots)), int(switches(installed, hosts, ports))


def switches(cards: Any, hosts: Any, ports: Any) -> Any:
    """Return switches of a non-blocking network with one port a card; none for one host.

    Up to ``ports`` cards share one switch; above, leaves give half of their ports upwards and
    spines take those (two-level fat tree).
    """
    cards = np.asarray(cards, dtype=float)
    one = np.ones_like(cards)
    two = np.ceil(cards / (ports / 2)) + np.ceil(cards / ports)
    return np.where(np.asarray(hosts) <= 1, 0.0, np.where(cards <= ports, one, two))


def average_power_w(cards: Any, card_w: Any, hosts: Any, host_w: Any, busy: Any, idle: Any) -> Any:
    """Return the mean draw before cooling: idle share always, the rest while busy [W].

    Args:
        cards: Cards switched on.
        card_w: A card's board power [W].
        hosts: Hosts.
        host_w: A host's own power at full load [W].
        busy: Share of the time at full load.
        idle: Idle draw as a share of full power.
    """
    return peak_power_w(cards, card_w, hosts, host_w) * (idle + (1 - idle) * busy)


def peak_power_w(cards: Any, card_w: Any, hosts: Any, host_w: Any) -> Any:
    """Return the draw at full load, before cooling [W]."""
    return cards * card_w + hosts * host_w


def energy_kwh_per_year(power_w: Any, pue: Any) -> Any:
    """Return energy a year with cooling and losses [kWh]."""
    return power_w / 1000 * pue * HOURS_PER_YEAR


def hosting_per_year(peak_w: Any, per_kw_month: Range) -> Range:
    """Return colocation a year: the reserved power times its monthly rate."""
    per_year: Range = per_kw_month * (peak_w / 1000 * MONTHS_PER_YEAR)
    return per_year


def staff_per_year(purchase: Range, running_per_year: Range, share: Range) -> Range:
    """Return staff cost a year where it is a share of all cost, however long that is counted.

    ``(purchase / WRITE_OFF_YEARS + running) · share / (1 − share)``
    """
    other = purchase * (1 / WRITE_OFF_YEARS) + running_per_year
    return Range(
        other.value * share.value / (1 - share.value),
        other.low * share.low / (1 - share.low),
        other.high * share.high / (1 - share.high),
    )


def carried(years: Any, support: float, resale: float, staff: float) -> Any:
    """Return by how much the total of :func:`ownership` rises with each dollar of purchase."""
    yearly = support + staff / (1 - staff) * (1 / WRITE_OFF_YEARS + support)
    return 1 + yearly * years - resale


def ownership(
    purchase: Range, running_per_year: Range, years: Any, resale_share: Range, staff_share: Range
) -> tuple[Range, Range, Range]:
    """Return total, staff and resale over the years.

    ``total = purchase + (running + staff) · years − resale``

    Args:
        purchase: What is bought.
        running_per_year: Energy, hosting, support.
        years: How long.
        resale_share: Of the purchase, got back at the end.
        staff_share: Of all cost before resale, see :func:`staff_per_year`.
    """
    staff = staff_per_year(purchase, running_per_year, staff_share) * years
    resale = purchase * resale_share
    gross = purchase + running_per_year * years + staff
    # More resale is less cost: the low total takes the high resale.
    total = Range(
        gross.value - purchase.value * resale_share.value,
        gross.low - purchase.low * resale_share.high,
        gross.high - purchase.high * resale_share.low,
    )
    return total, staff, resale


def tokens(per_s: Any, busy: Any, years: Any) -> Any:
    """Return tokens made in the years at full speed for a share of the time."""
    return per_s * busy * years * SECONDS_PER_YEAR


def per_million(total: Range, count: Any) -> Range:
    """Return cost per million tokens; NaN where none are made."""
    return total.over(np.asarray(count) / 1e6)


def rent(cards: Any, per_card_hour: Range, years: Any, share_of_time: Any) -> Range:
    """Return what renting as many cards costs: on demand by the hour, reserved all the time."""
    total: Range = per_card_hour * (cards * years * HOURS_PER_YEAR * share_of_time)
    return total


def break_even_month(
    purchase: Any, own_per_month: Any, rent_per_month: Any, most: Any = np.inf
) -> Any:
    """Return the month from which owning is cheaper; infinite if that is none of the first."""
    saved = np.asarray(rent_per_month - own_per_month, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        month = np.where(saved > 0, np.asarray(purchase, dtype=float) / saved, np.inf)
    return np.where(month <= most, month, np.inf)


def break_even_utilisation(fixed: Any, per_busy_share: Any, rent_all_the_time: Any) -> Any:
    """Return the share of the time in use above which owning beats renting by the hour.

    Owning costs ``fixed + per_busy_share · u``, renting ``rent · u``; infinite if never, not even
    all the time.
    """
    gain = np.asarray(rent_all_the_time - per_busy_share, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        use = np.where(gain > 0, np.asarray(fixed, dtype=float) / gain, np.inf)
    return np.where(use <= 1, use, np.inf)


def prompt_share(requests_per_s: Any, fresh_tokens: Any, prefill_tokens_per_s: Any) -> Any:
    """Return the share of busy time that goes into prompts, at most 1.

    Args:
        requests_per_s: Of the deployment.
        fresh_tokens: Of one prompt, that no cache holds.
        prefill_tokens_per_s: Such tokens a second.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.asarray(requests_per_s * fresh_tokens, dtype=float) / prefill_tokens_per_s
    return np.clip(np.nan_to_num(share, nan=0.0, posinf=1.0), 0.0, 1.0)
