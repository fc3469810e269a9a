"""Perturbations by name, as a command line gives them: NAME or NAME:key=value,key=value, or paraphrase:URL#MODEL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetylayers.attack.naming import read_setting
from safetylayers.errors import UsageError
from safetylayers.evaluate.panel import make_judges
from safetylayers.harden.perturb.checks import ProbeCheck
from safetylayers.harden.perturb.erase_and_check import EraseAndCheck
from safetylayers.harden.perturb.erasure import token_ends
from safetylayers.harden.perturb.paraphrase import Paraphrase
from safetylayers.harden.perturb.perplexity import PerplexityFilter, Surprise
from safetylayers.harden.perturb.retokenise import Retokenise
from safetylayers.harden.perturb.smooth import SmoothLLM
from safetylayers.prompts import builtin
from safetylayers.records import ProgressCallback
from safetylayers.targets import ChatClient, ModelTarget, Target, UrlTarget

if TYPE_CHECKING:
    from safetylayers.locate import SafetyMap
    from safetylayers.models import ChatModel
    from safetylayers.prompts import Template

PARAPHRASE_TOKENS = 256
"""Longest paraphrase."""


@dataclass(frozen=True)
class _Tools:
    target: Target
    map: SafetyMap | None
    seed: int
    progress: ProgressCallback | None


@dataclass(frozen=True)
class _Kind:
    make: Callable[[_Tools, dict[str, Any]], Target]
    settings: Mapping[str, type]


def through(
    text: str,
    target: Target,
    *,
    map: SafetyMap | None = None,  # noqa: A002 - what commands and attacks call it
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Target:
    """Return the target behind the perturbation that a text names.

    Thresholds that have to be calibrated are so on the built-in normal prompts' calibration split, now.

    Args:
        text: "smoothllm", "smoothllm:copies=10,rate=0.1,kind=swap", "perplexity:window=10,false_positives=0.01",
            "erase-and-check:mode=suffix,tokens=20", "retokenise:rate=0.4", "paraphrase:URL#MODEL".
        target: what replies.
        map: the safety map of the target's model, whose probe erase-and-check uses.
        seed: of what is drawn.
        progress: told while a threshold is calibrated.

    Raises:
        UsageError: there is no such perturbation or setting, a value makes no sense, or something is missing.
        WrongModelError: the map is another model's.
    """
    name, _, rest = text.strip().partition(":")
    tools = _Tools(target, map, seed, progress)
    if name == "paraphrase":
        return _paraphrase(tools, rest)
    if name not in _KINDS:
        raise UsageError(f"There is no perturbation {name!r}.", mend=f"Use one of: {FORMS}.")
    return _KINDS[name].make(tools, _settings(name, rest))


def _settings(name: str, text: str) -> dict[str, Any]:
    kinds = _KINDS[name].settings
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UsageError(f"{name} has no setting {part!r}.", mend=f"Write KEY=VALUE, of: {', '.join(kinds)}.")
        if key in found:
            raise UsageError(f"{name}:{key} is given twice.", mend="Give it once.")
        found[key] = read_setting(name, key, value, kinds)
    return found


def _smoothllm(tools: _Tools, given: dict[str, Any]) -> Target:
    if "judge" in given:
        given["judge"] = make_judges([given["judge"]])[0]
    return SmoothLLM(tools.target, **{"seed": tools.seed, **given})


def _retokenise(tools: _Tools, given: dict[str, Any]) -> Target:
    if not isinstance(tools.target, ModelTarget):
        raise UsageError(
            f"Retokenising needs the model itself, and {tools.target.name} takes text.",
            mend="Run it on a model's folder, first of all that it goes through.",
        )
    return Retokenise(tools.target, **{"seed": tools.seed, **given})


def _perplexity(tools: _Tools, given: dict[str, Any]) -> Target:
    model, template = _reader(tools, "perplexity", given.pop("model", ""))
    surprise = Surprise(model, given.pop("window", 10), template)
    if "threshold" in given:
        if "false_positives" in given:
            raise UsageError("perplexity: a threshold leaves nothing to calibrate.", mend="Give one of the two.")
        return PerplexityFilter(tools.target, surprise, given["threshold"])
    normal = builtin("normal", "calibration").texts
    return PerplexityFilter.calibrated(tools.target, surprise, normal, progress=tools.progress, **given)


def _erase_and_check(tools: _Tools, given: dict[str, Any]) -> Target:
    if tools.map is None:
        raise UsageError("erase-and-check needs a safety map, whose probe it asks.", mend="Give --map MAP.")
    model, _ = _reader(tools, "erase-and-check", given.pop("model", ""))
    check = ProbeCheck.of(model, tools.map, layer=given.pop("layer", None))
    share = given.pop("false_positives", 0.05)
    most = {"most": given.pop("tokens")} if "tokens" in given else {}
    made = EraseAndCheck(tools.target, check, token_ends(model.tokenizer), "tokens", **most, **given)
    normal = builtin("normal", "calibration").texts
    return made.calibrated(normal, false_positives=share, progress=tools.progress)


def _reader(tools: _Tools, name: str, source: str) -> tuple[ChatModel, Template]:
    """Return the model that reads prompts: another one where it is named, or the target's own."""
    if source:
        from safetylayers.models import ChatModel

        return ChatModel.load(source), "chat"
    inner: object = tools.target
    while not isinstance(inner, ModelTarget):
        inner = getattr(inner, "target", None)
        if inner is None:
            raise UsageError(
                f"{name} reads prompts with a model, and {tools.target.name} has none here.",
                mend=f"Name one: {name}:model=FOLDER.",
            )
    return inner.model, inner.template


def _paraphrase(tools: _Tools, name: str) -> Target:
    return Paraphrase(tools.target, UrlTarget(ChatClient.named(name), max_new_tokens=PARAPHRASE_TOKENS))


_KINDS: Mapping[str, _Kind] = {
    "smoothllm": _Kind(
        _smoothllm,
        {
            "copies": int,
            "rate": float,
            "kind": str,
            "alphabet": str,
            "threshold": float,
            "seed": int,
            "judge": str,
        },
    ),
    "perplexity": _Kind(_perplexity, {"window": int, "threshold": float, "false_positives": float, "model": str}),
    "erase-and-check": _Kind(
        _erase_and_check,
        {"mode": str, "tokens": int, "layer": int, "false_positives": float, "limit": int, "model": str},
    ),
    "retokenise": _Kind(_retokenise, {"rate": float, "seed": int}),
}
FORMS = ", ".join((*_KINDS, "paraphrase:URL#MODEL"))
"""What `through` takes, for messages and help."""
