"""Keys that open something, known by their form, in normal text (`normal.py`)."""

from __future__ import annotations

import re

from safetylayers.oversee.guards.candidates import CandidateDetector

_LONGEST_BLOCK = 16_384
_HEADER = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_BREAK = r"(?:\s|\\[nr]){0,8}"
"""Between a block's lines; in JSON and source code a line break is written out."""
_OPENING = r"(?=[A-Za-z0-9+/=]{16}|Proc-Type|Version|Comment)"
"""What stands behind a header that is more than prose about headers."""
_BODY = rf"{_OPENING}(?:(?!-----).){{9,{_LONGEST_BLOCK}}}"

PRIVATE_KEY = CandidateDetector(
    "private-key",
    # RFC 7468, and RFC 4880's armour.
    re.compile(rf"{_HEADER}{_BREAK}{_BODY}(?:-----(?:END [A-Z0-9 ]{{0,60}}-----)?)?", re.DOTALL),
    re.compile(
        r"(?:-{1,5}|-----[A-Z0-9 ]{1,80}-{0,4}"
        rf"|{_HEADER}{_BREAK}(?:[A-Za-z0-9+/=\\-]{{0,15}}|{_BODY}(?:-----[A-Z0-9 ]{{0,65}}-{{0,4}})?))\Z",
        re.DOTALL,
    ),
    longest=_LONGEST_BLOCK + 400,
)

# Prefixes that their issuers document, so that keys can be found.
_FORMS = (
    r"sk-(?=[A-Za-z_-]{0,80}[0-9])(?=[a-z0-9_-]{0,80}[A-Z])[A-Za-z0-9_-]{20,400}",  # OpenAI, Anthropic
    r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",  # Amazon
    r"AIza[A-Za-z0-9_-]{35}",  # Google
    r"gh[opsru]_[A-Za-z0-9]{36,400}|github_pat_[A-Za-z0-9_]{22,400}",  # GitHub
    r"glpat-[A-Za-z0-9_-]{20,400}",  # GitLab
    r"xox[abeoprs]-[A-Za-z0-9-]{10,400}",  # Slack
    r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,400}",  # Stripe
    r"hf_[A-Za-z0-9]{30,400}",  # Hugging Face
    r"npm_[A-Za-z0-9]{36,400}",
    r"pypi-[A-Za-z0-9_-]{50,400}",
)

API_KEY = CandidateDetector(
    "api-key",
    re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(_FORMS)})"),
    re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9][A-Za-z0-9_-]{0,420}\Z"),
    longest=430,
)
