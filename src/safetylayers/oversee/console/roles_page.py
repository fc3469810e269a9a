"""The role matrix, as a page of the documentation: every endpoint by every role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from safetylayers.oversee.console.endpoint import Needs, allows
from safetylayers.oversee.console.table import ENDPOINTS
from safetylayers.oversee.identity.roles import RIGHTS, Right, Role

API: Mapping[tuple[str, str], Needs] = MappingProxyType(
    {
        ("POST", "/v1/chat/completions"): (Right.ASK,),
        ("POST", "/v1/completions"): (Right.ASK,),
        ("POST", "/v1/moderations"): (Right.ASK,),
        ("GET", "/v1/models"): "a session",
        ("GET", "/v1/models/{model:path}"): (Right.ASK,),
        ("GET", "/health"): "nothing",
        ("GET", "/ready"): "nothing",
        ("GET", "/metrics"): "nothing",
        ("GET", "/openapi.json"): "nothing",
    }
)
"""What the gateway's own endpoints take. There, a key stands for a session."""

_INTRODUCTION = """# Roles and rights

Who may call what. The page is made from the tables that the gateway and the console work by, and a test calls every
endpoint as every role.

One person may hold several roles, but an auditor holds no other. Some things take more than a right: nobody approves
their own proposal, reviews the reply to their own request, or overrides for it.
"""


def roles_page() -> str:
    """Return the page as Markdown."""
    console = [(f"{each.method} `{each.path}`", each.needs, each.says) for each in ENDPOINTS]
    api = [(f"{method} `{path}`", needs, "") for (method, path), needs in API.items()]
    return "\n".join(
        [
            _INTRODUCTION,
            "## What each role is allowed\n",
            *_rights(),
            "\n## The console, with a session\n",
            *_matrix(console, "a session"),
            "\n## The API, with a key\n",
            "A key has those of its roles that its owner has as well. `GET /v1/models` lists the models that a key may",
            "ask: none, where it may not ask at all.\n",
            *_matrix(api, "a key"),
            "",
        ]
    )


def _rights() -> list[str]:
    rows = [f"| {role} | {', '.join(right for right in Right if right in RIGHTS[role])} |" for role in Role]
    return ["| role | rights |", "|---|---|", *rows]


def _matrix(endpoints: Sequence[tuple[str, Needs, str]], entry: str) -> list[str]:
    """Return a table of endpoints: name, what is needed, and what it is for, where that has to be said."""
    told = any(says for _, _, says in endpoints)
    columns = ["endpoint", *(["for"] if told else []), "takes", *Role]
    rows = []
    for name, needs, says in endpoints:
        marks = ["yes" if allows(needs, [role]) else "no" for role in Role]
        rows.append([name, *([says] if told else []), _taken(needs, entry), *marks])
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


def _taken(needs: Needs, entry: str) -> str:
    if isinstance(needs, str):
        return needs if needs == "nothing" else entry
    return " or ".join(needs)
