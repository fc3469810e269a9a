"""The append-only log: signed, encrypted, and verifiable by tools that are not ours."""

from safetylayers.oversee.audit.checkpoint import Checkpoint, Verifier
from safetylayers.oversee.audit.entry import Entry
from safetylayers.oversee.audit.export import export
from safetylayers.oversee.audit.keys import LogKeys
from safetylayers.oversee.audit.log import AuditLog
from safetylayers.oversee.audit.proof import check_proof, prove
from safetylayers.oversee.audit.reading import Kept
from safetylayers.oversee.audit.vault import Vault
from safetylayers.oversee.audit.verify import Problem, Verification, verify
from safetylayers.oversee.audit.witness import read_witness

__all__ = [
    "AuditLog",
    "Checkpoint",
    "Entry",
    "Kept",
    "LogKeys",
    "Problem",
    "Vault",
    "Verification",
    "Verifier",
    "check_proof",
    "export",
    "prove",
    "read_witness",
    "verify",
]
