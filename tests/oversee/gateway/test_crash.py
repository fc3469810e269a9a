"""A gateway that is killed: what clients received is in the log, and the next start finds its way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oversee.gateway.crashing import Logged, Seen, crash, wrong_with
from oversee.servers import Upstream, running
from safetylayers.oversee.gateway.site import CALLERS, Site


def test_a_gateway_killed_under_load_has_logged_all_that_clients_received(tmp_path: Path) -> None:
    upstream = Upstream()
    upstream.text, upstream.pause = " ".join(f"w{number}" for number in range(60)), 0.005
    with running(upstream.app) as address:
        for record in crash(address, tmp_path / "data", kills=3, clients=6, seed=4):
            assert not record.wrong
    assert any(seen.complete for seen in record.seen)
    assert any(seen.pieces and not seen.complete for seen in record.seen), "no reply was cut short by a kill"
    assert not any(seen.failed for seen in record.seen)


@pytest.mark.parametrize(
    ("received", "logged"),
    [
        (Seen("req-1", ("one", " two"), complete=False, failed=False), Logged(asked=True, released="one")),
        (Seen("req-1", ("one",), complete=False, failed=False), Logged(asked=False, released="one two")),
        (Seen("req-1", ("one",), complete=True, failed=False), Logged(asked=True, released="one", ended=False)),
        (Seen("req-1", ("one",), complete=True, failed=False), Logged(asked=True, released="one two", ended=True)),
        (Seen("req-1", (), complete=True, failed=False), Logged()),
        (Seen(None, ("one",), complete=False, failed=False), Logged()),
    ],
)
def test_what_the_log_does_not_tell_is_told(received: Seen, logged: Logged) -> None:
    assert list(wrong_with(received, {"req-1": logged}))


def test_an_answer_is_read_as_far_as_it_arrived() -> None:
    head = b"HTTP/1.1 200 OK\r\nx-request-id: req-1\r\n"
    event = b'data: {"id":"req-1","choices":[{"delta":{"content":"%b"}}]}\n\n'
    stream = head + b"\r\n" + event % b"one" + event % b" two"
    assert Seen.of(stream) == Seen("req-1", ("one", " two"), complete=False, failed=False)
    assert Seen.of(stream[:-9]) == Seen("req-1", ("one", " t"), complete=False, failed=False)
    assert Seen.of(stream + b"data: [DONE]\n\n").complete
    assert Seen.of(stream + b'data: {"error":{}}\n\ndata: [DONE]\n\n').failed
    whole = head + b"content-length: 17\r\n\r\n" + b'{"content":"one"}'
    assert Seen.of(whole) == Seen("req-1", ("one",), complete=True, failed=False)
    assert not Seen.of(whole[:-1]).complete
    assert Seen.of(b"") == Seen(None, (), complete=False, failed=False)


@pytest.mark.parametrize("after", [False, True])
def test_a_first_start_that_was_killed_is_made_up_for_by_the_next(tmp_path: Path, after: bool) -> None:
    class Killed(BaseException):
        pass

    def cut_short(real: Callable[..., Any]) -> Callable[..., Any]:
        def create(*arguments: Any, **options: Any) -> Any:
            if after:
                real(*arguments, **options)
            raise Killed

        return create

    site = Site.open(tmp_path)
    site.keys.create = cut_short(site.keys.create)  # type: ignore[method-assign]
    with pytest.raises(Killed):
        site.first_key()
    site.close()
    site = Site.open(tmp_path)
    path = site.first_key()
    assert path is not None
    assert path.stat().st_mode & 0o077 == 0
    assert site.keys.authenticate(path.read_text().strip()).name
    assert [person.name for person in site.people.everybody()] == [CALLERS]
    assert site.first_key() is None
    site.close()
