"""Policy files."""

from __future__ import annotations

from pathlib import Path

import pytest

from safetylayers.errors import PolicyError
from safetylayers.oversee.policy.actions import Action, strictest
from safetylayers.oversee.policy.policy import Policy, default_policy, load_policy, parse_policy


def test_the_default_policy_is_valid_and_blocks_on_errors() -> None:
    policy = default_policy()
    assert policy.guards
    assert all(rule.on_error == "block" for rule in policy.guards.values())
    assert not policy.shadow


def test_a_policy_written_out_reads_back_as_the_same() -> None:
    policy = default_policy()
    assert parse_policy(policy.as_yaml()) == policy
    assert parse_policy(policy.as_yaml()).hash == policy.hash


def test_equal_policies_have_equal_hashes_and_others_do_not() -> None:
    short = parse_policy("{version: 1, name: mine}")
    assert parse_policy("name: mine\nversion: 1\nshadow: false").hash == short.hash
    assert parse_policy("{version: 1, name: mine, shadow: true}").hash != short.hash


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("version: 1\nname: [", "line 2"),
        ("name: mine", "version"),
        ("version: 2\nname: mine", "version"),
        ("version: 1\nname: mine\nshadwo: true", "shadwo"),
        ("version: 1\nname: mine\nguards: {pii: {kind: personal, action: delete}}", "guards.pii.action"),
        ("version: 1\nname: mine\nguards: {pii: {kind: personal, reads: []}}", "guards.pii.reads"),
        ("version: 1\nname: mine\nguards: {pii: {kind: personal, reads: [input], action: regenerate}}", "regenerated"),
        ("version: 1\nname: mine\nmonitors: {prompt: {action: redact}}", "monitors.prompt.action"),
        ("version: 1\nname: mine\nmonitors: {prompt: {action: allow}}", "one gate"),
        ("version: 1\nname: mine\nlimits: {max_tokens: .nan}", "limits.max_tokens"),
        ("[]", "the file"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_the_place(text: str, told: str) -> None:
    with pytest.raises(PolicyError, match=told):
        parse_policy(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"missing\.yaml"):
        load_policy(tmp_path / "missing.yaml")


def test_yaml_cannot_make_objects() -> None:
    with pytest.raises(PolicyError):
        parse_policy("!!python/object/apply:os.getcwd []")


def test_the_strictest_action_counts() -> None:
    assert strictest([]) is Action.ALLOW
    assert strictest([Action.REDACT, Action.HOLD, Action.STEER]) is Action.HOLD


def test_policies_are_frozen() -> None:
    assert Policy.model_config["frozen"]
