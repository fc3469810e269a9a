"""Forms: where they come from, and what is in them."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from starlette.requests import ClientDisconnect, Request

from safetylayers.errors import AccessError
from safetylayers.oversee.gateway.errors import RequestError

MOST_BYTES = 2_000_000
"""A policy or an edited reply fits many times."""
MOST_BYTES_OF_STRANGERS = 16_384
"""A name, a password of the greatest length with each character written as %XX, and a token fit."""
MOST_FIELDS = 50


def check_origin(request: Request) -> None:
    """Raise AccessError unless a browser says that one of this server's own pages sends the request.

    Browsers that send Sec-Fetch-Site (W3C Fetch Metadata) cannot be made to lie by a page. Others send Origin (RFC
    6454). This is the second line; the first is the token in the form.
    """
    site = request.headers.get("sec-fetch-site")
    if site is None:
        origin = urlsplit(request.headers.get("origin", ""))
        same = bool(origin.netloc) and origin.netloc.lower() == request.headers.get("host", "").lower()
    else:
        same = site == "same-origin"
    if not same:
        raise AccessError("The request does not come from a page of this server.", mend="Load the page again.")


async def read_form(request: Request, *, most: int = MOST_BYTES) -> dict[str, str]:
    """Read a form. Of a field that comes twice, the last one counts.

    Args:
        request: what was sent.
        most: how many bytes it may have.

    Raises:
        RequestError: it is no form, too long, or broke off.
    """
    if not request.headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded"):
        raise RequestError("This is not a form of this page.", status=415, code="unsupported_media_type")
    try:
        text = (await _body(request, most)).decode("ascii")
        fields = dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS))
    except ClientDisconnect as error:
        raise RequestError("The request broke off.") from error
    except ValueError as error:
        raise RequestError("The form cannot be read.") from error
    if any("\0" in value for value in fields.values()):
        raise RequestError("The form holds a character that cannot be kept (U+0000).")
    return fields


async def _body(request: Request, most: int) -> bytes:
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > most:
            raise RequestError(f"The form is longer than {most:,} bytes.", status=413, code="request_too_large")
        parts.append(part)
    return b"".join(parts)
