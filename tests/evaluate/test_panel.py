"""Judges by name."""

from __future__ import annotations

import pytest

from safetylayers.errors import JudgeError, UsageError
from safetylayers.evaluate.panel import make_judges


def test_judges_come_in_the_order_they_are_named() -> None:
    names = [judge.name for judge in make_judges(["patterns", "phrases", "rubric:http://127.0.0.1:9/v1#grader"])]
    assert names == ["patterns", "phrases", "rubric (grader)"]


@pytest.mark.parametrize("name", ["oracle", "", "classifier:", "classifier:folder", "rubric:http://127.0.0.1:9/v1"])
def test_another_name_is_answered_with_the_choices(name: str) -> None:
    with pytest.raises(UsageError, match="no judge") as caught:
        make_judges([name])
    assert "classifier:MODEL#LABEL" in caught.value.mend


def test_a_classifier_that_cannot_be_loaded_says_so() -> None:
    with pytest.raises(JudgeError, match="no-such-classifier"):
        make_judges(["classifier:./no-such-classifier#REFUSED"])
