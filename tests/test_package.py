"""The package's own names are what they say, whoever imported what before."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import safetylayers


@pytest.mark.parametrize("name", safetylayers.__all__)
def test_no_name_is_a_room(name: str) -> None:
    assert not isinstance(getattr(safetylayers, name), ModuleType)


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = "import sys, safetylayers; sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_functions_named_like_their_room_come_from_it() -> None:
    from safetylayers.attach import attach
    from safetylayers.evaluate import evaluate
    from safetylayers.finetune import finetune
    from safetylayers.locate import locate

    assert all(map(callable, (attach, evaluate, finetune, locate)))
