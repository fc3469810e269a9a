"""The model card of a fine-tuned model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.records import write_text

if TYPE_CHECKING:
    from safetylayers.finetune.training import FinetuneResult


def write_model_card(folder: Path, result: FinetuneResult, table: str = "") -> Path:
    """Write `README.md` beside the model.

    Args:
        folder: the model's.
        result: of the run.
        table: safety before and after, as a Markdown table; without it, the card says that nothing was measured.
    """
    source = result.provenance
    held = "nothing"
    if result.frozen_layers:
        first, last = result.frozen_layers
        held = f"{result.scope} of layers {first} to {last}: {result.frozen_count} tensors, proved bitwise unchanged"
    data = ", ".join(f"{name} ({digest[:12]})" for name, digest in source.data.items())
    only = [f"{name.replace('_', ' ')} {value}" for name, value in result.options.items()]
    only += [f"{result.safety_rows} safety rows"] if result.safety_rows else []
    only += [f"{len(result.projected)} updates projected"] if "project_below" in result.options else []
    return write_text(
        folder / "README.md",
        f"""---
base_model: {source.model}
tags: [safetylayers]
---
# {source.model}, fine-tuned by {result.method}

| | |
| --- | --- |
| base model | {source.model} ({source.model_hash[:12]}) |
| held still | {held} |
| the method's own | {", ".join(only) or "nothing"} |
| data | {data}, {result.rows} rows; {result.truncated} cut short, {result.left_out} left out as too long |
| steps, batch | {result.steps}, {result.batch_size} |
| learning rate | {result.learning_rate:g} |
| mean loss | {result.final_loss:.4f} |
| seed | {source.seed} |

## Safety before and after

{table or "Not measured. To measure: `safetylayers evaluate BASE THIS`."}
""",
    )
