"""What a hardening run returns, and its model card."""

from __future__ import annotations

from pathlib import Path

from safetylayers.harden.collapse import CollapseCheck
from safetylayers.harden.methods import METHODS
from safetylayers.harden.settings import HardenSettings
from safetylayers.records import Provenance, Record, write_text


class HardenResult(Record):
    """What was trained, how, and what it has done to refusal's directions."""

    method: str
    layers_from: str
    """"map", "fixed", "random" or "A-B"."""
    layers: dict[str, tuple[int, ...]]
    """Part of the method -> the layers it acted at; -1 stands for the embeddings."""
    lora: bool
    settings: HardenSettings
    losses: dict[str, float]
    """Part -> its mean loss over the last tenth of the steps; "retain" is the utility data's."""
    harmful_rows: int
    retain_rows: int
    seconds: float
    """From the first step to the last, those before an interruption included."""
    collapse: CollapseCheck | None
    """Whether refusal is now held by one direction; none where that was not checked."""
    map_hash: str = ""
    """Of the safety map, where one was used."""
    provenance: Provenance


def write_harden_card(folder: Path, result: HardenResult, table: str = "") -> Path:
    """Write `README.md` beside the model.

    Args:
        folder: the model's.
        result: of the run.
        table: safety before and after, as a Markdown table; without it, the card says that nothing was measured.
    """
    source, settings = result.provenance, result.settings
    where = "; ".join(f"{part} at {_named(layers)}" for part, layers in result.layers.items()) or "no chosen layers"
    data = ", ".join(f"{name} ({digest[:12]})" for name, digest in source.data.items())
    return write_text(
        folder / "README.md",
        f"""---
base_model: {source.model}
tags: [safetylayers]
---
# {source.model}, hardened by {result.method}

| | |
| --- | --- |
| base model | {source.model} ({source.model_hash[:12]}) |
| method | {"; ".join(METHODS[part] for part in result.method.split("+"))} |
| layers ({result.layers_from}) | {where} |
| trained | {f"adapters of rank {settings.lora_rank}, merged" if result.lora else "all weights"} |
| data | {data}; {result.harmful_rows} harmful rows, {result.retain_rows} rows of utility data |
| steps, batch | {settings.steps}, {settings.batch_size} |
| learning rate, strength | {settings.learning_rate:g}, {settings.strength:g} |
| losses at the end | {", ".join(f"{name} {value:.3f}" for name, value in result.losses.items())} |
| one direction | {result.collapse.verdict if result.collapse else "Not checked."} |
| seed | {source.seed} |

Hardening raises the cost of attacks. It does not make a model safe, and attacks that are not named below were not
tried.

## Safety before and after

{table or "Not measured. To measure: `safetylayers evaluate BASE THIS`, `safetylayers attack THIS`."}
""",
    )


def _named(layers: tuple[int, ...]) -> str:
    return ", ".join("the embeddings" if layer < 0 else f"layer {layer}" for layer in layers)
