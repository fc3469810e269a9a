"""E-mail and IP addresses, in normal text (`normal.py`)."""

from __future__ import annotations

import ipaddress
import re

from safetylayers.oversee.guards.candidates import CandidateDetector

_LOCAL = r"\w[\w.+%-]{0,63}+"

EMAIL = CandidateDetector(
    "email",
    # RFC 5321's limits: 64 characters before the sign, labels of up to 63.
    re.compile(rf"{_LOCAL}@(?:[^\W_](?:[\w-]{{0,61}}[^\W_])?\.){{1,8}}[A-Za-z]{{2,24}}"),
    re.compile(rf"{_LOCAL}(?:@[\w.-]{{0,540}}+)?\Z"),
    longest=610,
)

_VERSION = re.compile(r"(?:\bv|\bversion|\brelease|\bbuild|\brevision)[ .:=]{0,4}\Z", re.IGNORECASE)


def _names_somebody(address: str) -> bool:
    """Whether it is an address that a machine in use may have: private ones count, loopback and netmasks do not."""
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (read.is_unspecified or read.is_loopback or read.is_multicast or read.is_reserved or read.is_link_local)


def _ipv4_end(text: str, match: re.Match[str]) -> int | None:
    if _VERSION.search(text[max(0, match.start() - 16) : match.start()]):
        return None
    return match.end() if _names_somebody(match.group()) else None


IPV4 = CandidateDetector(
    "ip",
    re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)"),
    re.compile(r"(?<![\d.])\d[\d.]{0,15}\Z"),
    longest=20,
    judge=_ipv4_end,
)


def _ipv6_end(_text: str, match: re.Match[str]) -> int | None:
    """Return where the address ends: a dot or colon may be the sentence's."""
    address = match.group()
    for shown in (address, address.rstrip("."), address.rstrip(".:")):
        if shown.count(":") >= 2 and _names_somebody(shown):
            return match.start() + len(shown)
    return None


IPV6 = CandidateDetector(
    "ip",
    re.compile(r"(?<![\w:.])[0-9A-Fa-f:.]{2,46}+(?!\w)"),
    re.compile(r"(?<![\w:.])[0-9A-Fa-f:.]{1,47}\Z"),
    longest=50,
    judge=_ipv6_end,
)
