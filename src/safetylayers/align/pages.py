"""A learned reward as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safetylayers.align.accuracy import value_names
from safetylayers.align.bayes import Array
from safetylayers.align.charts import asked_section, choosers_section, held_out_section, other_section
from safetylayers.align.reward import RECORD, TENSORS, Learned
from safetylayers.align.reward_record import RewardRecord
from safetylayers.prompts import PairSet
from safetylayers.report import Callout, Page, Section, Table
from safetylayers.report.tables import Cell

if TYPE_CHECKING:
    from safetylayers.align.trained import TrainedRecord

SHOWN = 20
LONGEST = 200
"""Characters of a request or reply that the page shows."""


def reward_page(learned: Learned, pairs: PairSet) -> Page:
    """Return the report of a reward.

    Args:
        learned: the reward, and what it makes of the choices.
        pairs: the choices that it was learned from.
    """
    record = learned.reward.record
    where = ", ".join(map(str, record.layers))
    sections = reward_sections(record)
    sections.append(Section("Choices that it would have made otherwise", [_surprises(pairs, learned.held_out)]))
    return Page(
        title="A reward over named values",
        lead=f"Learned from {len(pairs)} choices in {pairs.name}, on layers {where} of {record.provenance.model}.",
        sections=sections,
        provenance={"model": record.provenance.model, "weights": record.provenance.model_hash[:16]},
    )


def reward_sections(record: RewardRecord) -> list[Section]:
    """Return the sections about a reward, for a page of one's own."""
    sections = [held_out_section(record.values)]
    sections += [other_section(name, test) for name, test in record.tests.items()]
    if record.asked:
        sections.append(asked_section(record.asked))
    if record.people > 1:
        sections.append(choosers_section(record.values, record.people))
    return sections


def trained_page(record: TrainedRecord) -> Page:
    """Return the report of a trained reward model."""
    model = record.model
    how = f"low-rank adapters of rank {model.plan.lora_rank}" if model.plan.lora_rank else "all weights"
    return Page(
        title="A reward model over named values",
        lead=f"Trained on {model.pairs} choices for {model.plan.steps} steps of {model.plan.batch_size}, {how}, from "
        f"{model.provenance.model}. It does not know how sure it is.",
        sections=trained_sections(record),
        provenance={"model": model.provenance.model, "weights": model.provenance.model_hash[:16]},
    )


def trained_sections(record: TrainedRecord) -> list[Section]:
    """Return the sections about a reward model, for a page of one's own."""
    sections = [other_section(name, test) for name, test in record.tests.items()]
    return [*sections, *([asked_section(record.asked)] if record.asked else [])]


def sections_of(folder: Path) -> list[Section]:
    """Return the sections about the reward in a folder; none where no accuracy was measured. Raises DataError."""
    from safetylayers.align.trained import NAME, TrainedRecord

    if (folder / NAME).is_file():
        return trained_sections(TrainedRecord.read(folder / NAME))
    if (folder / TENSORS).is_file():
        return reward_sections(RewardRecord.read(folder / RECORD))
    return []


def _surprises(pairs: PairSet, p_N: Array) -> Table | Callout:
    """Return the choices that the reward is surest to be wrong: mislabelled ones are often among them."""
    names = value_names(pairs)
    order = sorted(range(len(pairs)), key=lambda index: p_N[index])
    rows: list[Sequence[Cell]] = [
        (
            f"{100 * p_N[index]:.1f} %",
            names[index],
            _short(pairs.pairs[index].prompt),
            _short(pairs.pairs[index].chosen),
            _short(pairs.pairs[index].rejected),
        )
        for index in order[:SHOWN]
        if p_N[index] < 0.5
    ]
    if not rows:
        return Callout("None", "It would have made all of these choices without having seen them.", "note")
    return Table("The surest first", ("its probability", "value", "request", "chosen", "rejected"), rows)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
