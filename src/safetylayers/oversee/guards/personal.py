"""Personal data, and secrets: what is found by its form and its check digits.

What `PersonalGuard` sees: e-mail addresses, telephone numbers, payment cards, IBANs, US social security numbers and IP
addresses, however the text comes in pieces, with digits grouped by spaces, dots or dashes, in full-width or other
scripts' digits, with zero-width characters between. What it holds back: the words or numbers at the end of unfinished
text that could still become a finding, mostly the last word. What gets past it: numbers in words ("four one one one"),
"name at example dot com", digits on lines of their own or with letters between, a card number whose groups have
differing gaps or that stands behind a decimal point, national telephone numbers of other regions, nine bare digits of a
social security number, names and street addresses, and everything encoded.

What `SecretsGuard` sees: private keys in PEM and PGP blocks, and API keys whose issuers gave them a known prefix. What
it holds back: the last word, and of a private key the whole block. What gets past it: passwords, keys without a known
prefix, keys broken into lines, and everything encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from phonenumbers import SUPPORTED_REGIONS
from pydantic import Field, field_validator

from safetylayers.oversee.guards.addresses import EMAIL, IPV4, IPV6
from safetylayers.oversee.guards.base import Finding, Passage, Verdict
from safetylayers.oversee.guards.candidates import CandidateDetector
from safetylayers.oversee.guards.normal import Normal, normal
from safetylayers.oversee.guards.numbers import CARD, IBAN, SSN, phone
from safetylayers.oversee.guards.secrets import API_KEY, PRIVATE_KEY
from safetylayers.oversee.guards.settings import GuardSettings
from safetylayers.oversee.guards.spans import Span, settle, without_overlaps
from safetylayers.oversee.guards.threads import off_the_loop

PersonalKind = Literal["email", "iban", "card", "ssn", "phone", "ip"]
SecretKind = Literal["private-key", "api-key"]
PERSONAL: tuple[PersonalKind, ...] = get_args(PersonalKind)
"""Of things that overlap, the one that comes first here is reported."""
SECRETS: tuple[SecretKind, ...] = get_args(SecretKind)

_NAMES: dict[str, str] = {
    "email": "email",
    "iban": "IBAN",
    "card": "card number",
    "ssn": "social security number",
    "phone": "phone number",
    "ip": "IP address",
    "private-key": "private key",
    "api-key": "API key",
}


class PersonalSettings(GuardSettings):
    """Settings of a `PersonalGuard`."""

    kinds: tuple[PersonalKind, ...] = Field(default=PERSONAL, min_length=1)
    """What is looked for."""
    region: str = "US"
    """Whose telephone numbers are found without their country's code (ISO 3166); ZZ for nobody's."""

    @field_validator("region")
    @classmethod
    def _known(cls, region: str) -> str:
        if region != "ZZ" and region not in SUPPORTED_REGIONS:
            raise ValueError("no region: two capital letters, such as DE, or ZZ for none")
        return region


class SecretsSettings(GuardSettings):
    """Settings of a `SecretsGuard`."""

    kinds: tuple[SecretKind, ...] = Field(default=SECRETS, min_length=1)
    """What is looked for."""


class _DetectingGuard:
    """Finds what its detectors find in normal text."""

    def __init__(self, name: str, kinds: Sequence[str], detectors: Sequence[CandidateDetector]) -> None:
        self.name = name
        self.kinds = tuple(kind for kind in _NAMES if kind in kinds)
        self._detectors = [detector for detector in detectors if detector.kind in kinds]

    async def check(self, passage: Passage) -> Verdict:
        """Find all of it."""
        return await off_the_loop(len(passage.text) - passage.start, self._check, passage)

    def _check(self, passage: Passage) -> Verdict:
        text = normal(passage.text, passage.start)
        settled = settle(self._detectors, text.text, text.start, final=passage.final)
        findings = [_finding(text, span) for span in without_overlaps(settled.spans, self.kinds)]
        return Verdict(text.origin(settled.upto), tuple(findings))


def _finding(text: Normal, span: Span) -> Finding:
    start, end = text.span(span.start, span.end)
    name = _NAMES[span.kind]
    return Finding(span.kind, start, end, replacement=f"[{name} removed]", reason=f"It contains: {name}.")


class PersonalGuard(_DetectingGuard):
    """Finds personal data."""

    def __init__(self, name: str, settings: PersonalSettings | None = None) -> None:
        settings = settings or PersonalSettings()
        super().__init__(name, settings.kinds, (EMAIL, IBAN, CARD, SSN, phone(settings.region), IPV6, IPV4))


class SecretsGuard(_DetectingGuard):
    """Finds private keys and API keys."""

    def __init__(self, name: str, settings: SecretsSettings | None = None) -> None:
        super().__init__(name, (settings or SecretsSettings()).kinds, (PRIVATE_KEY, API_KEY))
