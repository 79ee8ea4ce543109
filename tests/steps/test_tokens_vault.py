"""Stored tokens: encrypted, bound to their shop and purpose, under keys that can be rotated."""

from __future__ import annotations

import traceback

import pytest

from models.errors import InvalidSetting, InvariantBroken
from tasks.steps.vault import Vault
from tests.steps.token_server import key

A, B, C = (key(letter).encode() for letter in "abc")


def test_a_token_comes_back_as_it_was_and_is_never_stored_in_the_clear():
    sealed = Vault([A]).seal(7, "access", "shpat_in_the_clear")
    assert Vault([A]).open(7, "access", sealed) == "shpat_in_the_clear"
    assert b"shpat" not in sealed and b"7:access" not in sealed


def test_the_first_key_encrypts_and_all_decrypt():
    old = Vault([A]).seal(7, "access", "shpat_1")
    both = Vault([B, A])
    assert both.open(7, "access", old) == "shpat_1"
    assert Vault([B]).open(7, "access", both.seal(7, "access", "shpat_2")) == "shpat_2"
    assert Vault([B]).open(7, "access", both.reseal(7, "access", old)) == "shpat_1"


@pytest.mark.parametrize(
    ("shop_id", "purpose"),
    [
        pytest.param(8, "access", id="another shop"),
        pytest.param(77, "access", id="a shop whose number begins the same"),
        pytest.param(7, "refresh", id="another purpose"),
    ],
)
def test_a_token_moved_elsewhere_does_not_decrypt(shop_id, purpose):
    sealed = Vault([A]).seal(7, "access", "shpat_1")
    with pytest.raises(InvariantBroken) as told:
        Vault([A]).open(shop_id, purpose, sealed)
    assert "shpat_1" not in "".join(traceback.format_exception(told.value))


@pytest.mark.parametrize("keys", [[B], [B, C]], ids=["another key", "other keys"])
def test_a_key_that_is_gone_names_the_setting_and_what_to_do(keys):
    sealed = Vault([A]).seal(7, "access", "shpat_1")
    with pytest.raises(InvalidSetting, match=r"TOKEN_ENCRYPTION_KEYS.* shop 7; put the key .* back"):
        Vault(keys).open(7, "access", sealed)


@pytest.mark.parametrize(
    "sealed", [b"", b"shpat_1", b"\x00\xff" * 40], ids=["nothing", "clear text", "bytes"]
)
def test_what_was_never_encrypted_is_not_taken_for_a_token(sealed):
    with pytest.raises(InvalidSetting, match="TOKEN_ENCRYPTION_KEYS"):
        Vault([A]).open(7, "access", sealed)


def test_without_a_key_the_setting_and_the_way_to_make_one_are_named():
    with pytest.raises(InvalidSetting, match=r"TOKEN_ENCRYPTION_KEYS: is empty.*openssl rand"):
        Vault([])


def test_a_vault_shows_no_key():
    assert A.decode()[:20] not in repr(Vault([A])) + repr(vars(Vault([A])))
