"""Reward models: a language model's own weights trained to score replies, by TRL's RewardTrainer.

The Bayesian reward (`reward.py`) reads hidden states that stay as they are and knows how sure it is; a reward model
learns new ones, takes longer, and is sure of itself. One model has a head for each named value. Loss: Bradley and
Terry's, with the pair's margin (arXiv 2307.09288, section 3.2.2): -log sigmoid(r_chosen - r_rejected - margin).
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from transformers import PrinterCallback
from trl import RewardConfig, RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from safetylayers.align.bayes import Array
from safetylayers.align.reward import OVERALL
from safetylayers.align.trl_settings import gathered, is_first, trl_settings
from safetylayers.errors import DataError, ModelError, OutputError, UsageError
from safetylayers.finetune.callbacks import StopAtNaN, TellProgress
from safetylayers.finetune.plan import claim
from safetylayers.finetune.trainer import run_trainer
from safetylayers.models.batching import run_batched
from safetylayers.models.tokens import pad_left
from safetylayers.prompts.pairs import PairSet, Turn
from safetylayers.prompts.rendering import render_messages
from safetylayers.records import ProgressCallback, Provenance, Record

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from safetylayers.models import ChatModel

PLAN, RECORD = "reward-plan.json", "result.json"


class RewardModelPlan(Record):
    """Everything that decides a reward model's weights."""

    values: tuple[str, ...] = Field(min_length=1)
    """A head each, in this order."""
    lora_rank: int = Field(ge=0)
    """0 trains all weights."""
    learning_rate: float = Field(gt=0)
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    max_length: int = Field(ge=8)
    seed: int
    model_hash: str
    data_hash: str


class RewardModelResult(Record):
    """A trained reward model."""

    plan: RewardModelPlan
    pairs: int
    left_out: int
    """Pairs longer than `max_length`."""
    final_loss: float
    """Mean of what was minimised."""
    provenance: Provenance


class RewardModel:
    """A sequence classifier whose logits are rewards, one a value."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        result: RewardModelResult,
        batch_size: int = 64,
    ) -> None:
        """Wrap a loaded one."""
        self.model, self.tokenizer, self.result, self.batch_size = model, tokenizer, result, batch_size
        model.train(False)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu") -> Self:
        """Load what `train_reward_model` saved.

        Raises:
            DataError: the folder holds no reward model.
            ModelError: it cannot be loaded.
        """
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        path = Path(folder)
        if not (path / PLAN).is_file() or not (path / RECORD).is_file():
            raise DataError(f"{folder}: holds no reward model.", mend="Train one with `train_reward_model`.")
        result = RewardModelResult.read(path / RECORD)
        try:
            tokenizer = AutoTokenizer.from_pretrained(path)
            model = AutoModelForSequenceClassification.from_pretrained(path, use_safetensors=True).to(device)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(f"{folder}: cannot be loaded: {str(error).splitlines()[0]}") from error
        return cls(model, tokenizer, result)

    @property
    def values(self) -> tuple[str, ...]:
        """What the heads score, in order."""
        return self.result.plan.values

    def scores(
        self,
        conversations: Sequence[Sequence[Turn]],
        replies: Sequence[str],
        *,
        progress: ProgressCallback | None = None,
    ) -> Array:
        """Return rewards float64 [N, values]; those of two prompts cannot be compared. Raises UsageError."""
        if len(conversations) != len(replies):
            raise UsageError(f"{len(conversations)} conversations but {len(replies)} replies.", mend="Give one each.")
        if not replies:
            raise UsageError("There is nothing to score: no replies were given.", mend="Give at least one.")
        rows = [_token_ids(t, r, self.tokenizer) for t, r in zip(conversations, replies, strict=True)]
        pad = self.model.config.get_text_config().pad_token_id

        def work(indices: list[int]) -> list[Array]:
            batch = pad_left([rows[index] for index in indices], pad, self.model.device)
            with torch.inference_mode():
                logits_BV: Tensor = self.model(
                    input_ids=batch.input_ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids
                ).logits
            return list(logits_BV.double().cpu().numpy())

        found = run_batched(list(map(len, rows)), self.batch_size, work, what="scoring replies", progress=progress)
        return np.stack(found)


def train_reward_model(
    model: ChatModel,
    pairs: PairSet,
    *,
    output: Path,
    lora_rank: int = 16,
    learning_rate: float = 2e-4,
    steps: int = 200,
    batch_size: int = 16,
    max_length: int = 1024,
    save_every: int = 100,
    seed: int = 0,
    resume: bool = True,
    progress: ProgressCallback | None = None,
) -> RewardModelResult:
    """Train a copy of a model to score replies, and save it as a sequence classifier in the transformers format.

    Args:
        model: that is started from.
        pairs: choices; each counts for the head of the value that it names.
        output: new or empty; gets the model, `result.json`, and while training `checkpoints`.
        lora_rank: of adapters, which are merged at the end; 0 trains all weights.
        learning_rate: the highest.
        steps: of training.
        batch_size: pairs a step.
        max_length: tokens; pairs with longer conversations are left out.
        save_every: steps between checkpoints.
        seed: of the adapters and the order of pairs.
        resume: go on from an earlier run in `output`; a complete one is returned at once.
        progress: told of every step.

    Raises:
        UsageError: `output` holds something else, or the model has no token that ends a text.
        DataError: no pair is short enough.
        NonFiniteLossError: the loss became NaN or infinite.
        OutputError: there is no room.
    """
    values = tuple(dict.fromkeys(pair.value or OVERALL for pair in pairs))
    plan = RewardModelPlan(
        values=values, lora_rank=lora_rank, learning_rate=learning_rate, steps=steps, batch_size=batch_size,
        max_length=max_length, seed=seed, model_hash=model.weights_hash, data_hash=pairs.content_hash,
    )  # fmt: skip
    rows = [row for row in _rows(pairs, model, values) if row.length <= max_length]
    if not rows:
        raise DataError(f"No pair has at most {max_length} tokens.", mend="Allow more, or give shorter ones.")
    claim(output, plan, resume=resume, name=PLAN, what="reward-modelling")
    if (output / RECORD).exists():
        return RewardModelResult.read(output / RECORD)
    classifier, loss = _trained(model, plan, rows, output / "checkpoints", save_every, resume, progress)
    provenance = Provenance(
        model=model.name, model_hash=model.weights_hash, data={pairs.name: pairs.content_hash}, seed=seed
    )
    result = RewardModelResult(
        plan=plan, pairs=len(rows), left_out=len(pairs) - len(rows), final_loss=loss, provenance=provenance
    )
    if is_first():
        _save(classifier, model.tokenizer, result, output)
    return result


@dataclass(frozen=True)
class _Row:
    chosen_ids: list[int]
    rejected_ids: list[int]
    margin: float
    head: int

    @property
    def length(self) -> int:
        return max(len(self.chosen_ids), len(self.rejected_ids))


def _rows(pairs: PairSet, model: ChatModel, values: Sequence[str]) -> list[_Row]:
    return [
        _Row(
            _token_ids(pair.messages, pair.chosen, model.tokenizer),
            _token_ids(pair.messages, pair.rejected, model.tokenizer),
            pair.margin,
            values.index(pair.value or OVERALL),
        )
        for pair in pairs
    ]


def _token_ids(turns: Sequence[Turn], reply: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return a conversation with its reply and the token that ends it, where the reward is read."""
    if not reply.strip():
        raise UsageError("A reply is empty: it has no token.", mend="Leave empty replies out.")
    asked: list[int] = tokenizer(render_messages(list(turns), tokenizer), add_special_tokens=False).input_ids
    said: list[int] = tokenizer(reply, add_special_tokens=False).input_ids
    return asked + said + ([] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)])


def _classifier(model: ChatModel, values: Sequence[str], seed: int, *, adapted: bool) -> PreTrainedModel:
    """Return a copy of the model's decoder under new heads, which begin at nought."""
    from transformers import AutoModelForSequenceClassification

    source = model.model
    config = copy.deepcopy(source.config)
    names = dict(enumerate(values))
    config.id2label, config.label2id = names, {name: number for number, name in names.items()}
    tokens = config.get_text_config()
    if tokens.pad_token_id is None:
        tokens.pad_token_id = model.ends_of_text[0] if model.ends_of_text else 0
    torch.manual_seed(seed)
    try:
        made: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
        heads = made.get_parameter("score.weight")
    except (ValueError, AttributeError) as error:
        raise ModelError(
            f"{model.name}: transformers has no reward model of this architecture ({model.architecture}).",
            mend="Use the Bayesian reward, which reads any model's hidden states.",
        ) from error
    setattr(made, made.base_model_prefix, copy.deepcopy(source.base_model))
    nn.init.zeros_(heads)
    # In half precision most steps of a usual learning rate round to nothing; adapters have a precision of their own.
    made.to(device=model.device, dtype=model.dtype if adapted else torch.float32)  # type: ignore[call-arg]
    return made


def _trained(
    model: ChatModel,
    plan: RewardModelPlan,
    rows: Sequence[_Row],
    folder: Path,
    save_every: int,
    resume: bool,
    progress: ProgressCallback | None,
) -> tuple[PreTrainedModel, float]:
    """Train; return the classifier, adapters merged, and the mean loss."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model

    def fresh() -> Any:
        made = _classifier(model, plan.values, plan.seed, adapted=bool(adapters))
        return get_peft_model(made, adapters) if adapters else made

    adapters = None
    if plan.lora_rank:
        adapters = LoraConfig(
            r=plan.lora_rank, lora_alpha=2 * plan.lora_rank, target_modules="all-linear", task_type="SEQ_CLS",
            modules_to_save=["score"],
        )  # fmt: skip
    classifier = _classifier(model, plan.values, plan.seed, adapted=bool(adapters))
    pad = int(classifier.config.get_text_config().pad_token_id)
    # TRL insists on one label; ours are told apart by `HeadsTrainer`, and the true number is put back before saving.
    labels = classifier.config.id2label
    classifier.config.id2label = {0: OVERALL}
    trainer = HeadsTrainer(
        model=classifier,
        args=RewardConfig(
            max_length=plan.max_length,
            **trl_settings(
                model, folder, learning_rate=plan.learning_rate, steps=plan.steps, rows=plan.batch_size,
                save_every=save_every, seed=plan.seed,
            ),
        ),
        data_collator=HeadsCollator(pad_token_id=pad),
        train_dataset=Dataset.from_list([asdict(row) for row in rows]),
        processing_class=model.tokenizer,
        callbacks=[StopAtNaN(folder)] + ([TellProgress(progress, "reward modelling")] if progress else []),
        peft_config=adapters,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    loss = run_trainer(trainer, folder, resume)
    trained = gathered(trainer, trainer.model, fresh)
    trained = trained.merge_and_unload() if adapters else trained
    trained.config.id2label = labels
    return trained, loss


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, result: RewardModelResult, output: Path) -> None:
    from safetensors import SafetensorError

    try:
        model.save_pretrained(output)
        tokenizer.save_pretrained(output)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{output}: the reward model cannot be saved ({getattr(error, 'strerror', None) or error}).",
            mend="Free some room, or choose another folder.",
        ) from error
    result.write(output / RECORD)
    shutil.rmtree(output / "checkpoints", ignore_errors=True)


class HeadsCollator(DataCollatorForPreference):  # type: ignore[misc]  # TRL has no types
    """Also says which head each pair is for."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch, chosen replies first, with `head` [pairs]."""
        return {**super().torch_call(examples), "head": torch.tensor([row["head"] for row in examples])}


class HeadsTrainer(RewardTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's trainer, for several values at once."""

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["chosen_ids", "rejected_ids", "margin", "head"]

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return Bradley and Terry's loss of each pair at its own head."""
        del num_items_in_batch
        head_B, margin_B = inputs["head"], inputs["margin"]
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        chosen_BV, rejected_BV = outputs.logits.float().chunk(2)
        gap_B = (chosen_BV - rejected_BV).gather(1, head_B[:, None])[:, 0]
        loss = -nn.functional.logsigmoid(gap_B - margin_B).mean()
        self._metrics["train" if self.model.training else "eval"]["accuracy"].append((gap_B > 0).float().mean().item())
        return (loss, outputs) if return_outputs else loss
