"""What has to be done now and then: close what nobody decided in time, and delete what need not be kept."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from safetylayers.errors import SafetyLayersError
from safetylayers.oversee.audit.thinning import thin
from safetylayers.oversee.gateway.forgetting import days_ago, forget_before

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House

logger = logging.getLogger(__name__)
CLOSE_SECONDS = 30.0
FORGET_EVERY = 120
"""Rounds of closing to one of forgetting."""
PIECES = 20
"""Transactions of forgetting at a time: a gateway that is told to end does not wait for the rest."""


async def keep_house(house: House) -> None:
    """Do it for as long as the gateway runs."""
    rounds = 0
    while True:
        try:
            await asyncio.to_thread(close_due, house)
            if rounds % FORGET_EVERY == 0:
                while await asyncio.to_thread(forget, house):
                    pass
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


def forget(house: House) -> bool:
    """Delete old checkpoints, and texts that are older than the policy keeps them; return whether more may be left."""
    if thin(house.site.database, pieces=PIECES):
        return True
    days = house.shelf.current.policy.keep_days
    if days is None:
        return False
    before = days_ago(days)
    if house.log.expire(before, actor=house.actor, pieces=PIECES):
        return True
    forget_before(house.site, before, actor=house.actor)
    return False
