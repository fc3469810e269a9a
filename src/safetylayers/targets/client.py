"""A client of any OpenAI-compatible server's chats, which asks again where an answer may still come."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from safetylayers.errors import EndpointError, UsageError

if TYPE_CHECKING:
    import httpx

Messages = Sequence[Mapping[str, str]]
_TRY_AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504))


class ChatClient:
    """Asks one server for completions of chats. The key is read from the environment and kept nowhere else.

    Several threads may use one client.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key_variable: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        attempts: int = 4,
        first_wait: float = 1.0,
    ) -> None:
        """Name a server; nothing is sent yet.

        Args:
            base_url: up to and with the version, such as "http://127.0.0.1:8000/v1".
            model: as the server calls it.
            key_variable: of the environment; where it is not set, no key is sent.
            timeout: seconds for one request.
            attempts: so many a request, when the server errs or stalls.
            first_wait: seconds before the second attempt; doubled before each further one.

        Raises:
            UsageError: the address is none, or a number makes no sense.
        """
        if not base_url.startswith(("http://", "https://")):
            raise UsageError(f"{base_url!r} is no address.", mend="Give one like http://127.0.0.1:8000/v1.")
        if attempts < 1 or timeout <= 0 or first_wait < 0:
            raise UsageError("A client needs a time-out and attempts above zero.")
        self.url = f"{base_url.rstrip('/')}/chat/completions"
        self.model = model
        self._key_variable, self._timeout = key_variable, timeout
        self._attempts, self._first_wait = attempts, first_wait
        self._http: httpx.Client | None = None

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the client that URL#MODEL names. Raises UsageError."""
        url, _, model = name.rpartition("#")
        if not url or not model:
            raise UsageError(
                f"{name!r} does not say which model of which server.",
                mend="Write URL#MODEL, as in http://127.0.0.1:8000/v1#tiny.",
            )
        return cls(url, model)

    def __enter__(self) -> Self:
        import httpx

        key = os.environ.get(self._key_variable, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(timeout=self._timeout, headers=headers)
        return self

    def __exit__(self, *_: object) -> None:
        if self._http:
            self._http.close()
        self._http = None

    def ask(
        self, messages: Messages, *, accept: Callable[[str], bool] | None = None, **sampling: float | int
    ) -> tuple[str, dict[str, Any]]:
        """Return the reply's text and the whole answer; within a `with` block of this client.

        Args:
            messages: the chat so far; where the last one is the assistant's, most servers go on from there.
            accept: says whether a reply has the form that was asked for; one that has not is asked for again.
            sampling: `temperature`, `max_tokens`, `seed` and the like, as the API calls them.

        Raises:
            EndpointError: the server cannot be reached, errs, or answers in another form, at every attempt.
        """
        body = {"model": self.model, "messages": list(messages), **sampling}
        problem = ""
        for attempt in range(self._attempts):
            if attempt:
                time.sleep(self._first_wait * 2 ** (attempt - 1))
            found = self._once(body)
            if isinstance(found, str):
                problem = found
            elif accept is None or accept(found[0]):
                return found
            else:
                problem = "the answer is not in the form that was asked for"
        raise EndpointError(
            f"No answer after {self._attempts} attempts: {problem}.",
            mend="Check that the server runs and that it serves this model.",
        )

    def _once(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]] | str:
        """Return the answer, or what went wrong and may go right next time."""
        import httpx

        if self._http is None:
            raise UsageError("This client is closed.", mend="Use it in a `with` block.")
        try:
            response = self._http.post(self.url, json=body)
        except httpx.TransportError as error:
            return f"{type(error).__name__} from {self.url}"
        if response.status_code in _TRY_AGAIN:
            return f"status {response.status_code} from {self.url}"
        if response.status_code != 200:
            raise EndpointError(
                f"{self.url} answers with status {response.status_code}.",
                mend=f"Check the address, the model's name, and the key in the variable {self._key_variable}.",
            )
        try:
            answer: dict[str, Any] = response.json()
            text = answer["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            return "the answer is no chat completion"
        return (text or "", answer)
