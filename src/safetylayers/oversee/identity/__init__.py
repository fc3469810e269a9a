"""People, their passwords and sessions, programs' keys, what each may do, and what takes two people."""

from safetylayers.oversee.identity.keys import Keys
from safetylayers.oversee.identity.people import People, Person
from safetylayers.oversee.identity.principal import GATEWAY, MACHINE, Principal
from safetylayers.oversee.identity.proposals import Proposal, Proposals
from safetylayers.oversee.identity.roles import RIGHTS, Right, Role
from safetylayers.oversee.identity.sessions import Login, Sessions
from safetylayers.oversee.identity.throttle import LockedOutError

__all__ = [
    "GATEWAY",
    "MACHINE",
    "RIGHTS",
    "Keys",
    "LockedOutError",
    "Login",
    "People",
    "Person",
    "Principal",
    "Proposal",
    "Proposals",
    "Right",
    "Role",
    "Sessions",
]
