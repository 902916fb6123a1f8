"""What a buyer asks: a scenario, and what limits and prices the choice."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from configurator.catalog import Catalog, load_catalog
from configurator.cost.prices import Condition, Region
from configurator.errors import InputError
from configurator.link import BUYERS, FEATURES, Buying
from configurator.scenario import (
    Precision,
    Scenario,
    _to_input_error,
    _whole_number,
    parse_scenario,
)

Currency = Literal["USD", "CNY"]
Objective = Literal["cost", "purchase", "per_million_tokens", "latency", "headroom", "energy"]
Vendor = Literal["NVIDIA", "AMD", "Intel", "Huawei", "Apple"]
Segment = Literal["consumer", "workstation", "datacenter", "desktop SoC"]
TierId = Literal["individual", "sme", "enterprise"]

# What a link's purchase holds under the same names.
MARKET = (
    "objective", "region", "condition", "segments", "form_factors", "max_gpus", "max_rack_units",
    "max_power_w_per_host", "spare_gpus", "spare_node", "sure_prices", "export_limits",
    "cny_per_usd", "tariff_per_kwh", "pue", "hosting_per_kw_month", "staff_share", "support_share",
    "resale_share",
)  # fmt: skip
# These too, of serving and of training.
SERVED = ("output_tokens_per_s_limit",)
RUN = ("train_tokens_b", "train_days_limit")
DAY_S = 86_400.0
MAX_MONEY = 1e13
Count = Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=100_000)]
Years = Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=5)]
Positive = Annotated[float, Field(gt=0, le=MAX_MONEY)]
Share = Annotated[float, Field(ge=0, le=0.95)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class OwnPrice(_Part):
    """A company's own price of one card; it replaces the catalog's."""

    gpu: str = Field(max_length=200)
    price: Positive
    date: dt.date
    currency: Currency | None = None


class TierEdit(_Part):
    """A tier's limits changed by the user; what is absent stays. Sums are in the currency asked.

    ``other_purchase`` is what is bought besides, in all: storage, racks, cables, installation.
    """

    max_budget: Positive | None = None
    max_power_w: Positive | None = None
    max_gpus: Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=100_000)] | None = None
    max_nodes: Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=100_000)] | None = None
    require_ecc: bool | None = None
    least_domain: Count | None = None
    spare_gpus: Count | None = None
    other_purchase: Positive | None = None


class Request(_Part):
    """A scenario and what limits the choice. Sums are in ``currency``, times seconds.

    Attributes:
        scenario: What is run; hardware in it is not looked at.
        also: A second load on the same kind of card, at the same time (training beside serving).
        region, condition: Where and how cards are bought.
        vendors, segments, form_factors: Allowed; all if empty.
        gpus, without_gpus: Only these cards; not these.
        ecc, vgpu, nvlink: Whether cards must have it; None: the tier decides, or no matter.
        max_budget: Of the purchase; None: the tier's.
        max_power_w: At full load, before cooling; None: the tier's.
        max_power_w_per_host: The same for each machine: what one outlet or rack slot gives.
        max_gpus, max_rack_units: Of the plan, spares included.
        sure_prices: Leave out cards whose price is of low confidence.
        owned: Cards that are there already, by catalog id.
        spare_gpus: Cards beyond those in use; None: the tier's. ``spare_node`` adds a server.
        ttft_s_limit: Time to the first token at this load.
        user_tokens_per_s_limit: Least speed that each user sees.
        output_tokens_per_s_limit, train_tokens_per_s_limit: Least speed of the deployment.
        train_tokens_b: Billions of tokens in the whole training run; gives its days.
        train_days_limit: Most days that the run may take.
        years, utilisation: Of ownership; share of the time at this load.
        cny_per_usd: Exchange rate; None: the catalog's.
        tariff_per_kwh, pue, hosting_per_kw_month, staff_share, support_share, resale_share: Rates;
            None: the catalog's default of region and tier.
        objective: What ranks plans.
        precisions: Of the weights, allowed; the scenario's if empty.
        prices: A company's own.
        accept_tight: Whether plans inside the memory estimate's error count as fitting.
        export_limits: Leave out cards that need an export licence for the region.
        plans: Shown a tier.
        tiers: Edits of the tiers' own limits.
    """

    scenario: Scenario
    also: Scenario | None = None
    currency: Currency = "USD"
    region: Region = "any"
    condition: Condition = "new"
    vendors: tuple[Vendor, ...] = ()
    segments: tuple[Segment, ...] = ()
    form_factors: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    without_gpus: tuple[str, ...] = ()
    ecc: bool | None = None
    vgpu: bool | None = None
    nvlink: bool | None = None
    max_budget: Positive | None = None
    max_power_w: Positive | None = None
    max_power_w_per_host: Positive | None = None
    max_gpus: Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=100_000)] | None = None
    sure_prices: bool = False
    max_rack_units: Positive | None = None
    owned: dict[str, Count] = Field(default_factory=dict)
    spare_gpus: Count | None = None
    spare_node: bool = False
    ttft_s_limit: Positive | None = None
    user_tokens_per_s_limit: Positive | None = None
    output_tokens_per_s_limit: Positive | None = None
    train_tokens_per_s_limit: Positive | None = None
    train_tokens_b: Positive | None = None
    train_days_limit: Positive | None = None
    years: Years = 3
    utilisation: Annotated[float, Field(gt=0, le=1)] = 0.5
    cny_per_usd: Annotated[float, Field(ge=0.01, le=1000)] | None = None
    tariff_per_kwh: Annotated[float, Field(ge=0, le=100)] | None = None
    pue: Annotated[float, Field(ge=1, le=5)] | None = None
    hosting_per_kw_month: Annotated[float, Field(ge=0, le=MAX_MONEY)] | None = None
    staff_share: Share | None = None
    support_share: Share | None = None
    resale_share: Share | None = None
    objective: Objective = "cost"
    precisions: tuple[Precision, ...] = ()
    prices: tuple[OwnPrice, ...] = ()
    accept_tight: bool = False
    export_limits: bool = False
    plans: Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=100)] = 5
    tiers: dict[TierId, TierEdit] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _limits_fit_task(self) -> Request:
        tasks = {s.is_training for s in (self.scenario, self.also) if s is not None}
        if False not in tasks:
            for name in ("ttft_s_limit", "user_tokens_per_s_limit", "output_tokens_per_s_limit"):
                if getattr(self, name) is not None:
                    raise InputError(
                        name, "no_meaning", getattr(self, name), task=self.scenario.task
                    )
        if True not in tasks:
            for name in ("train_tokens_per_s_limit", "train_tokens_b", "train_days_limit"):
                if getattr(self, name) is not None:
                    raise InputError(name, "no_meaning", getattr(self, name), task="inference")
        if self.train_days_limit is not None and self.train_tokens_b is None:
            raise InputError("train_days_limit", "needs_tokens", self.train_days_limit)
        return self

    @property
    def least_train_tokens_per_s(self) -> float | None:
        """The speed of training that both of its limits ask for, if any is set."""
        asked = [self.train_tokens_per_s_limit]
        if self.train_days_limit is not None and self.train_tokens_b is not None:
            asked.append(self.train_tokens_b * 1e9 / (self.train_days_limit * DAY_S))
        return max((limit for limit in asked if limit is not None), default=None)

    def train_days(self, tokens_per_s: float | None) -> float | None:
        """Return the days that the whole training run takes at a speed; None if not known."""
        if self.train_tokens_b is None or not tokens_per_s:
            return None
        return self.train_tokens_b * 1e9 / tokens_per_s / DAY_S


def catalog_for(request: Request, catalog: Catalog | None = None) -> Catalog:
    """Return the catalog that a request is answered from: at its own exchange rate, if it has one.

    Args:
        request: What is asked.
        catalog: Facts; the built-in ones if None.
    """
    catalog = catalog or load_catalog()
    return catalog if request.cny_per_usd is None else at_rate(catalog, request.cny_per_usd)


@lru_cache(maxsize=8)
def at_rate(catalog: Catalog, cny_per_usd: float) -> Catalog:
    """Return a catalog at an exchange rate; the same one again for the same rate."""
    if cny_per_usd == catalog.currencies["CNY"].per_usd.value:
        return catalog
    return catalog.at_rate("CNY", cny_per_usd)


def terms_of(request: Request) -> Buying:
    """Return the part of a request that a link carries beside the scenario.

    A limit of all buyers goes to each of them. ``gpus`` and ``train_tokens_per_s_limit`` have no
    place in a link.
    """
    edits = request.tiers.items()
    budgets: dict[str, float] = {
        tier: e.max_budget for tier, e in edits if e.max_budget is not None
    }
    if request.max_budget is not None:
        budgets = dict.fromkeys(BUYERS, request.max_budget)
    powers: dict[str, float] = {
        tier: e.max_power_w for tier, e in edits if e.max_power_w is not None
    }
    if request.max_power_w is not None:
        powers = dict.fromkeys(BUYERS, request.max_power_w)
    return Buying(
        years=request.years,
        utilisation=request.utilisation,
        owned=dict(request.owned),
        budgets=budgets,
        powers=powers,
        others={tier: e.other_purchase for tier, e in edits if e.other_purchase is not None},
        features=tuple(name for name in FEATURES if getattr(request, name)),
        accept_tight=request.accept_tight,
        **{name: getattr(request, name) for name in (*MARKET, *SERVED, *RUN)},
    )


def parse_request(data: Any) -> Request:
    """Check a decoded JSON object: a Request, or a bare Scenario with default limits.

    Args:
        data: The object; one without ``scenario`` is read as a scenario.

    Raises:
        InputError: Names the first field that cannot be used, its value and the way out.
    """
    if not isinstance(data, Mapping):
        raise InputError("request", "object", data)
    if "scenario" not in data:
        return Request(scenario=parse_scenario(data))
    try:
        return Request.model_validate(data)
    except ValidationError as error:
        found = _to_input_error(error)
        named = any(problem["loc"] for problem in error.errors(include_url=False))
        whole = found.field == "scenario" and not named
        raise found.at("request" if whole else found.field) from None
