"""Numbers that say who somebody is or where the money lies: cards, accounts, telephones, social security numbers.

Candidates are runs of digits with few separators between; what decides are check digits and numbering plans, from
python-stdnum and phonenumbers. Texts are normal ones (`normal.py`).
"""

from __future__ import annotations

import re

from phonenumbers import PhoneNumberMatcher
from stdnum import iban, luhn
from stdnum.us import ssn

from safetylayers.oversee.guards.candidates import CandidateDetector

_GAP = r"[ .-]{0,3}"
_START = r"(?<!\d)(?<!\d[.,])"
"""Of a number: not within another one, nor among a fraction's digits."""

# Length by prefix of the networks' issuer identification numbers (ISO/IEC 7812-1).
_ISSUED = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12,15}"  # Discover
    r"|3(?:0[0-5]|[689]\d)\d{11}|36\d{13,17}"  # Diners Club
    r"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    r"|(?:62|81)\d{14,17}"  # UnionPay
    r"|220[0-4]\d{12,15}"  # Mir
    r"|(?:50|60|82)\d{14}"  # RuPay
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{8,15}"  # Maestro
)


def _card_end(text: str, match: re.Match[str]) -> int | None:
    """Return the end of the longest card number that begins here, whose parts one kind of gap holds apart."""
    digits, gaps, end = "", set(), None
    for part in re.finditer(r"(\d+)([^\d]*)", match.group()):
        digits += part[1]
        place = match.start() + part.end(1)
        if not text[place : place + 1].isdecimal() and _ISSUED.fullmatch(digits) and luhn.is_valid(digits):
            end = place
        gaps.add(part[2])
        if len(gaps) > 1:
            break
    return end


CARD = CandidateDetector(
    "card",
    re.compile(rf"{_START}\d(?:{_GAP}\d){{11,18}}"),
    re.compile(rf"{_START}\d(?:{_GAP}\d){{0,18}}{_GAP}\Z"),
    longest=80,
    judge=_card_end,
)


def _iban_end(_text: str, match: re.Match[str]) -> int | None:
    """Return where an IBAN ends that begins here (ISO 13616: the country's form, and 1 modulo 97)."""
    account = ""
    for character in re.finditer(r"[A-Za-z0-9]", match.group()):
        account += character.group()
        if len(account) >= 15 and iban.is_valid(account, check_country=False):
            return match.start() + character.end()
    return None


IBAN = CandidateDetector(
    "iban",
    re.compile(rf"(?<![A-Za-z0-9])[A-Za-z]{{2}}\d\d(?:{_GAP}[A-Za-z0-9]){{11,30}}"),
    re.compile(rf"(?<![A-Za-z0-9])[A-Za-z](?:[A-Za-z](?:\d(?:\d(?:{_GAP}[A-Za-z0-9]){{0,30}}{_GAP})?)?)?\Z"),
    longest=130,
    judge=_iban_end,
)


def _ssn_end(_text: str, match: re.Match[str]) -> int | None:
    return match.end() if ssn.is_valid("".join(match.group(1, 3, 4))) else None


SSN = CandidateDetector(
    "ssn",
    # Nine digits in a row are too common to be taken for one.
    re.compile(r"(?<!\d)(?<!\d-)(\d{3})([ -]{1,3})(\d\d)\2(\d{4})(?!\d|-\d)"),
    re.compile(r"(?<!\d)(?<!\d-)\d[\d -]{0,16}\Z"),
    longest=20,
    judge=_ssn_end,
)


_MINUTES = re.compile(r":[0-5]\d")
"""What makes a date and time of the digits before it."""


def phone(region: str) -> CandidateDetector:
    """Make a detector of telephone numbers: those of a region as they are dialled there, all others from the plus."""

    def end_of(text: str, match: re.Match[str]) -> int | None:
        if sum(map(str.isdecimal, match.group())) < 7:
            return None
        begin = max(0, match.start() - 1)  # the matcher looks at one character on each side as well
        after = 3 if _MINUTES.match(text, match.end()) else 1
        found = next(iter(PhoneNumberMatcher(text[begin : match.end() + after], region)), None)
        if found is None or begin + found.start > match.start():
            return None
        end = begin + found.end
        return None if text[end : end + 1].isdecimal() else end

    first = rf"{_START}(?:\+|\(\+?)?\d"
    return CandidateDetector(
        "phone",
        re.compile(rf"{first}[\d ().+/-]{{5,38}}"),
        re.compile(rf"(?:{_START}(?:\+|\(\+?)|{first}[\d ().+/-]{{0,38}}(?::[0-5]?)?)\Z"),
        longest=50,
        judge=end_of,
    )
