"""Run, restricted, stopped: who changes that, how each replica knows it in time, and how a stop is measured."""

from safetylayers.oversee.modes.change import approve_mode, begin, propose_mode, set_mode
from safetylayers.oversee.modes.heartbeat import Replica, list_replicas
from safetylayers.oversee.modes.keeper import ModeKeeper
from safetylayers.oversee.modes.mode import Mode, ModeState, read_mode
from safetylayers.oversee.modes.stop import ReplicaStop, StopReport, stop_everything

__all__ = [
    "Mode",
    "ModeKeeper",
    "ModeState",
    "Replica",
    "ReplicaStop",
    "StopReport",
    "approve_mode",
    "begin",
    "list_replicas",
    "propose_mode",
    "read_mode",
    "set_mode",
    "stop_everything",
]
