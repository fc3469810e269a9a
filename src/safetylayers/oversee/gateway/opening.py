"""Opening a house: everything a gateway needs, in the order in which it is needed, and closed in the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.gateway import tracing
from safetylayers.oversee.gateway.house import STORE_SECONDS, House
from safetylayers.oversee.gateway.housekeeping import keep_house
from safetylayers.oversee.gateway.site import Site
from safetylayers.oversee.identity.principal import MACHINE
from safetylayers.oversee.modes.change import begin
from safetylayers.oversee.modes.keeper import ModeKeeper
from safetylayers.oversee.modes.mode import Mode, ModeState
from safetylayers.oversee.policy.policy import Policy
from safetylayers.oversee.review.overrides import Overrides
from safetylayers.oversee.review.queue import ReviewDesk

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap
    from safetylayers.oversee.engine.base import Engine

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_house(
    site: Site,
    engine: Engine,
    *,
    replica: str,
    first_policy: Policy | None = None,
    lease_seconds: float = 2.0,
    traces: str | None = None,
    found: SafetyMap | None = None,
) -> AsyncIterator[House]:
    """Within the block, a gateway is ready to serve.

    Args:
        site: the deployment; it stays open.
        engine: where replies come from; it is opened and closed here.
        replica: this gateway's name.
        first_policy: put in force where there is none yet.
        lease_seconds: how long this replica may run without a word from the store.
        traces: address of an OTLP collector; None for no traces.
        found: the model's safety map, for the console to show.

    Raises:
        PolicyError: the policy in force cannot be put to work here.
        EngineError: the model cannot be made ready.
    """
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(site.shelf.open, first_policy)
        stack.push_async_callback(site.shelf.close)
        await site.shelf.current.open()
        begin(site.database, site.log, by=MACHINE)
        await engine.open()
        stack.push_async_callback(engine.close)
        house = _house(site, engine, replica, lease_seconds)
        house.safety_map = found
        site.shelf.tell_times(house.timed)
        if traces:
            provider = tracing.provider_for(traces, replica=replica)
            stack.callback(provider.shutdown)
            house.tracer = provider.get_tracer("safetylayers")
        await asyncio.to_thread(house.keeper.start)
        stack.push_async_callback(asyncio.to_thread, house.keeper.close)
        await _note(house, "replica-started")
        stack.push_async_callback(_farewell, house)
        await house.ask_canary()
        for work in (house.watch_monitors(), house.shelf.follow(), keep_house(house)):
            stack.push_async_callback(_ended, asyncio.create_task(work))
        yield house


def _house(site: Site, engine: Engine, replica: str, lease_seconds: float) -> House:
    loop = asyncio.get_running_loop()

    def changed(state: ModeState) -> None:
        if state.mode is Mode.STOPPED:
            engine.halt()
            if not loop.is_closed():
                loop.call_soon_threadsafe(house.hurry)

    keeper = ModeKeeper(
        site.database, replica=replica, lease_s=lease_seconds, on_change=changed, running=lambda: house.active
    )
    house = House(
        replica=replica,
        site=site,
        engine=engine,
        keeper=keeper,
        desk=ReviewDesk(site.database, site.log, site.secrets.vault),
        overrides=Overrides(site.database, site.log),
    )
    return house


def _entry(house: House, kind: str) -> Entry:
    facts = {
        "models": list(house.engine.models),
        "watched_by": house.engine.watched_by,
        "policy": house.shelf.current.policy.hash[:16],
    }
    return Entry(kind=kind, actor=house.actor, facts=facts)


async def _note(house: House, kind: str) -> None:
    async with asyncio.timeout(STORE_SECONDS):  # in whatever mode
        await house.log.append(_entry(house, kind))


async def _farewell(house: House) -> None:
    """Log that this replica ends. One that cannot any more ends all the same."""
    try:
        await _note(house, "replica-ended")
    except Exception:
        logger.exception("the log could not be told that this replica ends")


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
