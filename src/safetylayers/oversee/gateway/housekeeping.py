"""What has to be done now and then: close what nobody decided in time, and forget what the policy says to forget."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from safetylayers.errors import SafetyLayersError

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House

logger = logging.getLogger(__name__)
CLOSE_SECONDS = 30.0
FORGET_EVERY = 120
"""Rounds of closing to one of forgetting."""


async def keep_house(house: House) -> None:
    """Do it for as long as the gateway runs."""
    rounds = 0
    while True:
        try:
            await asyncio.to_thread(close_due, house)
            if rounds % FORGET_EVERY == 0:
                await asyncio.to_thread(forget, house)
        except SafetyLayersError as error:
            logger.warning("housekeeping has to wait: %s", error.message)
        except Exception:
            logger.exception("housekeeping has to wait")
        rounds += 1
        await asyncio.sleep(CLOSE_SECONDS)


def close_due(house: House) -> None:
    """Close held replies and proposals that nobody decided in time."""
    house.desk.replies.expire_due()
    house.site.proposals.expire_due()


def forget(house: House) -> None:
    """Delete texts that are older than the policy keeps them."""
    days = house.shelf.current.policy.keep_days
    if days is not None:
        before = datetime.now(UTC) - timedelta(days=days)
        house.log.expire(before, actor=house.actor)
        house.desk.replies.forget_before(before)
