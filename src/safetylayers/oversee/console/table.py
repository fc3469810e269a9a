"""All of the console, and the right that each of it takes. The role matrix and its test are made from this table."""

from __future__ import annotations

from safetylayers.oversee.console.endpoint import Endpoint
from safetylayers.oversee.console.pages import (
    audit,
    live,
    login,
    overrides,
    overview,
    policy,
    review,
    safety_map,
    static,
)
from safetylayers.oversee.identity.roles import Right

STAFF = (Right.SEE_LIVE, Right.PROPOSE_POLICY)
"""Everybody who works here, and no caller."""
STOP = (Right.STOP,)
PROPOSE_MODE, APPROVE_MODE = (Right.PROPOSE_MODE,), (Right.APPROVE_MODE,)
PROPOSE_POLICY, APPROVE_POLICY = (Right.PROPOSE_POLICY,), (Right.APPROVE_POLICY,)
SEE_LIVE, REVIEW, OVERRIDE, READ_AUDIT = (Right.SEE_LIVE,), (Right.REVIEW,), (Right.OVERRIDE,), (Right.READ_AUDIT,)

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/console/login", "nothing", "the page to log in", login.show),
    Endpoint("POST", "/console/login", "nothing", "log in", login.enter),
    Endpoint("GET", "/console/static/{name}", "nothing", "style sheets and the script", static.send),
    Endpoint("POST", "/console/logout", "a session", "log out", login.leave),
    Endpoint("GET", "/console/", "a session", "mode and replicas", overview.show, title="Overview"),
    Endpoint("GET", "/console/status", "a session", "the mode, kept up to date", overview.status, part=True),
    Endpoint("POST", "/console/mode/stop", STOP, "stop everything", overview.stop, urgent=True),
    Endpoint("POST", "/console/mode/restrict", STOP, "restrict everything", overview.restrict),
    Endpoint("POST", "/console/mode/propose", PROPOSE_MODE, "propose a less safe mode", overview.propose),
    Endpoint("POST", "/console/mode/withdraw", PROPOSE_MODE, "withdraw one's own proposal", overview.withdraw),
    Endpoint("POST", "/console/mode/approve", APPROVE_MODE, "approve another person's proposal", overview.approve),
    Endpoint("POST", "/console/mode/reject", APPROVE_MODE, "reject a proposal", overview.reject),
    Endpoint("GET", "/console/live", SEE_LIVE, "requests being served", live.show, title="Live"),
    Endpoint("GET", "/console/live/replies", SEE_LIVE, "the same, kept up to date", live.replies, part=True),
    Endpoint("POST", "/console/live/stop", STOP, "stop one request", live.stop),
    Endpoint("POST", "/console/live/refuse", STOP, "turn one reply into a refusal", live.refuse),
    Endpoint("GET", "/console/review", REVIEW, "replies that wait for a person", review.show, title="Review"),
    Endpoint("GET", "/console/review/list", REVIEW, "the same, kept up to date", review.waiting, part=True),
    Endpoint("GET", "/console/review/{held}", REVIEW, "read one; the log says who", review.read),
    Endpoint("POST", "/console/review/{held}/{decision}", REVIEW, "release, edit or reject it", review.decide),
    Endpoint("GET", "/console/overrides", OVERRIDE, "overrides in force", overrides.show, title="Overrides"),
    Endpoint("POST", "/console/overrides", OVERRIDE, "override a decision", overrides.add),
    Endpoint("POST", "/console/overrides/lift", OVERRIDE, "end an override", overrides.lift),
    Endpoint("GET", "/console/policy", STAFF, "the policy and proposals", policy.show, title="Policy"),
    Endpoint("POST", "/console/policy/propose", PROPOSE_POLICY, "propose a policy", policy.propose),
    Endpoint("POST", "/console/policy/withdraw", PROPOSE_POLICY, "withdraw one's own proposal", policy.withdraw),
    Endpoint("POST", "/console/policy/approve", APPROVE_POLICY, "approve another person's proposal", policy.approve),
    Endpoint("POST", "/console/policy/reject", APPROVE_POLICY, "reject a proposal", policy.reject),
    Endpoint("GET", "/console/audit", READ_AUDIT, "search the log", audit.show, title="Audit"),
    Endpoint("POST", "/console/audit/verify", READ_AUDIT, "verify the whole log", audit.check),
    Endpoint("GET", "/console/audit/{index}", READ_AUDIT, "one entry with its text; the log says who", audit.entry),
    Endpoint("GET", "/console/audit/{index}/proof", READ_AUDIT, "an entry's proof", audit.proof),
    Endpoint("GET", "/console/map", STAFF, "where the model's safety layers are", safety_map.show, title="Map"),
)
