"""What a key is: its columns, its token, and who it stands for.

A secret has 256 random bits, so the database holds a plain SHA-256 of it: slow hashes are for passwords, which people
choose and others can guess; here there is nothing to guess, and a gateway verifies a key with each request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from safetylayers.errors import AccessError
from safetylayers.oversee.identity.principal import Principal
from safetylayers.oversee.identity.roles import Role

_TOKEN = re.compile(r"sl-([0-9a-f]{16})-([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key, without its secret."""

    id: str
    name: str
    owner: str
    """Id of the person who answers for it."""
    roles: frozenset[Role]
    """Of these it has those that its owner has as well."""
    models: frozenset[str] | None
    """Models that may be asked; None for all."""
    requests_per_minute: int | None
    created: datetime
    expires: datetime
    revoked: datetime | None
    used: datetime | None
    """To the hour."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it is shown once."""

    key: Key
    token: str


def fits(row: Row[Any], hashed: str, now: datetime) -> bool:
    """Return whether a secret is the new one, or the old one in its time. How long that takes says nothing of them."""
    old = row.old_secret if row.old_secret is not None and now < row.old_until else row.secret
    return hmac.compare_digest(row.secret, hashed) | hmac.compare_digest(old, hashed)


def principal_of(row: Row[Any]) -> Principal:
    """Return who a key stands for: it has the roles that its owner has as well."""
    return Principal(
        id=f"key-{row.id}",
        person=row.owner,
        name=f"{row.person_name} ({row.name})",
        roles=frozenset(map(Role, row.roles)) & frozenset(map(Role, row.person_roles)),
        models=None if row.models is None else frozenset(row.models),
        requests_per_minute=row.requests_per_minute,
        expires=row.expires,
    )


def key_of(row: Row[Any]) -> Key:
    """Return a key as it may be shown."""
    return Key(
        id=row.id,
        name=row.name,
        owner=row.owner,
        roles=frozenset(map(Role, row.roles)),
        models=None if row.models is None else frozenset(row.models),
        requests_per_minute=row.requests_per_minute,
        created=row.created,
        expires=row.expires,
        revoked=row.revoked,
        used=row.used,
    )


def token_of(key: str, secret: str) -> str:
    """Return a key as programs send it."""
    return f"sl-{key}-{secret}"


def parts_of(token: str) -> tuple[str, str]:
    """Return a token's id and secret. Raises AccessError where it is no key."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise AccessError("This is no key of this gateway.", mend="Keys look like sl-<id>-<secret>.")
    return match[1], match[2]


def sha256(secret: str) -> str:
    """Return a secret as it is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()
