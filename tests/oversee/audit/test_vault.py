"""What a vault sealed opens unchanged, in its own context, with its own key, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safetylayers.errors import AuditError
from safetylayers.oversee.audit import Vault

VAULT = Vault(bytes(range(32)))


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_what_is_sealed_opens(text: bytes, context: bytes) -> None:
    sealed = VAULT.seal(text, context=context)
    assert VAULT.open(sealed, context=context) == text
    assert VAULT.seal(text, context=context) != sealed


@given(st.binary(min_size=1, max_size=40), st.data())
def test_one_flipped_bit_is_enough_not_to_open(text: bytes, data: st.DataObject) -> None:
    sealed = bytearray(VAULT.seal(text, context=b"here"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(AuditError):
        VAULT.open(bytes(sealed), context=b"here")


def test_other_contexts_and_keys_do_not_open() -> None:
    sealed = VAULT.seal(b"text", context=b"here")
    with pytest.raises(AuditError):
        VAULT.open(sealed, context=b"there")
    with pytest.raises(AuditError):
        Vault(bytes(32)).open(sealed, context=b"here")
    with pytest.raises(AuditError):
        VAULT.open(sealed[:40], context=b"here")


def test_keys_have_one_size() -> None:
    with pytest.raises(AuditError, match="16 bytes"):
        Vault(bytes(16))
