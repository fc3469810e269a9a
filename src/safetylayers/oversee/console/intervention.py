"""One person's word against one request that is being served here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.gateway.errors import RequestError
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.proposals import told_reason
from safetylayers.oversee.identity.roles import Right
from safetylayers.oversee.policy.actions import Action
from safetylayers.oversee.policy.decision import Ruling

if TYPE_CHECKING:
    from safetylayers.oversee.gateway.house import House
    from safetylayers.oversee.gateway.reply import Overseer


async def stop_request(house: House, reply: str, *, by: Principal, reason: str) -> None:
    """Let nothing more of a request leave, its other replies included, from the model's next token on.

    It is done before it is logged: a log that cannot be written must not keep anybody from it.

    Raises:
        AccessError: no right to.
        RequestError: it is not being served here any more.
        AuditError, StoreError: it is done and could not be logged.
    """
    by.require(Right.STOP)
    reason, found = told_reason(reason), _running(house, reply)
    found.case.allowed_by = None
    found.case.decision.rulings.append(Ruling("operator", "stopped", Action.BLOCK))
    await _log(house, "reply-stopped", found, by, reason)


async def refuse_reply(house: House, reply: str, *, by: Principal, reason: str) -> None:
    """Let the gate inside the model turn a reply into a refusal, from its next token on.

    Raises:
        AccessError: no right to.
        RequestError: it is not being served here any more.
        EngineError: nothing here can steer.
        AuditError, StoreError: it is done and could not be logged.
    """
    by.require(Right.STOP)
    reason, found = told_reason(reason), _running(house, reply)
    # Each attempt has a name of its own; those that do not run are passed over.
    for name in (reply, *(f"{reply}+{attempt}" for attempt in range(1, found.policy.attempts))):
        house.engine.refuse(name)
    await _log(house, "reply-refused", found, by, reason)


def _running(house: House, reply: str) -> Overseer:
    found = house.live.find(reply)
    if found is None:
        raise RequestError("This reply is not being made here any more.", status=404, code="not_found")
    return found


async def _log(house: House, kind: str, found: Overseer, by: Principal, reason: str) -> None:
    facts = {"request": found.case.id, "reply": found.ask.id, "key": found.case.principal.id}
    entry = Entry(kind=kind, actor=by.actor, facts=facts, payload={"reason": reason}, subject=by.person)
    await house.log.append(entry)
