"""From a reward to a policy, through TRL's trainers, held near a reference and watched."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from safetylayers.align.policy.data import PolicyData, Rows, conversations, distinct, in_order, rows_for
from safetylayers.align.policy.holding import Hold, adapted, block_of, hold_still
from safetylayers.align.policy.plan import (
    ONLINE,
    Method,
    PolicyPlan,
    PolicyResult,
    check_method,
    check_watching,
    planned,
)
from safetylayers.align.policy.trainers import Making
from safetylayers.align.policy.watch import Watch, Watching
from safetylayers.align.trl_settings import check_rows, gathered, is_first, rank
from safetylayers.errors import UsageError
from safetylayers.finetune.callbacks import StopAtNaN, TellProgress, losses_before
from safetylayers.finetune.freezing import check_unmoved, fingerprint
from safetylayers.finetune.plan import claim
from safetylayers.finetune.trainer import run_trainer
from safetylayers.models import ChatModel
from safetylayers.prompts.pairs import Turn
from safetylayers.prompts.rendering import render_messages
from safetylayers.records import ProgressCallback, Provenance

if TYPE_CHECKING:
    from safetylayers.align.scoring import Scorer
    from safetylayers.locate import SafetyMap

PLAN, RECORD = "policy-plan.json", "result.json"


def align_policy(
    model: ChatModel,
    data: PolicyData,
    *,
    output: Path,
    method: Method,
    reward: Scorer | None = None,
    gold: Scorer | None = None,
    watch: PolicyData | None = None,
    map: SafetyMap | None = None,  # noqa: A002 - the word of the whole project
    hold: Hold = "nothing",
    beta: float = 0.05,
    penalty: float = 1.0,
    replies: int = 8,
    max_new_tokens: int = 64,
    max_length: int = 1024,
    lora_rank: int = 16,
    learning_rate: float = 2e-5,
    steps: int = 200,
    batch_size: int = 8,
    watch_every: int = 25,
    patience: int = 4,
    max_kl: float | None = None,
    save_every: int = 100,
    seed: int = 0,
    resume: bool = True,
    progress: ProgressCallback | None = None,
) -> PolicyResult:
    """Train a copy of a model, and save it as a transformers folder.

    Args:
        model: that is started from; it is also the reference.
        data: examples for sft, pairs for dpo, anything with requests for grpo and rloo.
        output: new or empty; gets the model, `result.json`, and while training `checkpoints`.
        method: sft; dpo (arXiv 2305.18290); grpo (arXiv 2402.03300); rloo (arXiv 2402.14740).
        reward: what is optimised; dpo needs none, and lets it choose anew where it is given.
        gold: a reward that is not optimised, from other choices, by which over-optimisation shows.
        watch: requests on which the policy is watched, not among `data`; without them it is not.
        map: the model's safety map, where `hold` is not "nothing".
        hold: hold the map's layers still ("map"), or all others.
        beta: how much moving away from the reference costs; sft takes none.
        penalty: how many of its standard deviations the reward is lowered by, or for dpo a gap has to exceed.
        replies: drawn for each request, by grpo and rloo.
        max_new_tokens: longest reply that is drawn.
        max_length: tokens a row, for sft and dpo; longer ones are left out.
        lora_rank: of adapters, which are merged at the end; 0 trains all weights.
        learning_rate: the highest.
        steps: of training.
        batch_size: rows a step; with grpo and rloo, requests.
        watch_every: steps between looks.
        patience: looks in a row that may be worse by gold than the best; 0 never stops for it.
        max_kl: to the reference in nats a reply, beyond which the run stops.
        save_every: steps between checkpoints.
        seed: of the order of rows, adapters and replies.
        resume: go on from an earlier run in `output`; a complete one is returned at once.
        progress: told of every step.

    Raises:
        UsageError: the method lacks something or does not take it, or `output` holds something else.
        DataError: there is nothing to learn from.
        WrongModelError: the map, or a reward, is another model's.
        NonFiniteLossError: the loss became NaN or infinite.
        FrozenTensorError: a tensor that had to stay still has moved.
        OutputError: there is no room.
    """
    check_method(method, reward is not None)
    check_watching(watched=watch is not None, gold=gold is not None, max_kl=max_kl)
    check_rows(batch_size * (replies if method in ONLINE else 1))
    block = block_of(hold, map, model)
    penalty = penalty if reward else 0.0
    plan = planned(
        method=method, hold=hold, block=block, beta=0.0 if method == "sft" else beta, penalty=penalty,
        lora_rank=lora_rank, learning_rate=learning_rate, steps=steps, batch_size=batch_size, replies=replies,
        max_new_tokens=max_new_tokens, max_length=max_length, seed=seed, model_hash=model.weights_hash,
        data_hash=data.content_hash, reward_hash=reward.content_hash if reward else "",
        watch_hash=watch.content_hash if watch else "", gold_hash=gold.content_hash if gold else "",
        watch_every=watch_every, patience=patience, max_kl=max_kl,
    )  # fmt: skip
    seen = unseen(watch, data) if watch else None
    if resume and (output / RECORD).exists():
        claim(output, plan, resume=True, name=PLAN, what="policy")
        return PolicyResult.read(output / RECORD)
    rows = rows_for(method, data, reward, penalty, fits(model, max_length))
    claim(output, plan, resume=resume, name=PLAN, what="policy")  # after everything that a user may have got wrong
    run = _Run(plan, model, output / "checkpoints", save_every, reward, progress)
    result = run.train(rows, data, run.watching(seen, gold), resume=resume)
    if is_first():
        run.finish(result, output)
    return result


def fits(model: ChatModel, longest: int) -> Callable[[Sequence[Turn]], bool]:
    """Return what tells whether a conversation with its reply has at most so many tokens."""

    def short(turns: Sequence[Turn]) -> bool:
        *asked, said = turns
        text = render_messages(asked, model.tokenizer) + said["content"] + (model.tokenizer.eos_token or "")
        return len(model.tokenizer(text, add_special_tokens=False).input_ids) <= longest

    return short


def unseen(watch: PolicyData, data: PolicyData) -> list[list[Turn]]:
    """Return the conversations to watch on that are not learned from. Raises UsageError where there is none."""
    learned = distinct(conversations(data))
    found = [turns for known, turns in distinct(conversations(watch)).items() if known not in learned]
    if not found:
        raise UsageError("Everything to watch on is learned from as well.", mend="Give other requests with --watch.")
    return found


class _Run:
    """One run: a copy of the model, what stays still in it, and what its end is made of."""

    def __init__(
        self,
        plan: PolicyPlan,
        source: ChatModel,
        folder: Path,
        save_every: int,
        scorer: Scorer | None,
        progress: ProgressCallback | None,
    ) -> None:
        self.plan, self.source, self.folder = plan, source, folder
        self.save_every, self.scorer, self.progress = save_every, scorer, progress
        self.policy, self.trained, self.held = self._copy()
        self.reference = source
        if plan.method in ONLINE and plan.beta and not plan.lora_rank:
            # TRL loads the reference from where the model's configuration says that it comes from.
            self.policy.model.config.name_or_path = str(self._written_reference())

    def _copy(self) -> tuple[ChatModel, Any, list[str]]:
        plan = self.plan
        policy = ChatModel(copy.deepcopy(self.source.model), self.source.tokenizer, name=self.source.name)
        if not plan.lora_rank:
            # In half precision most steps of a usual learning rate round to nothing.
            policy.model.to(dtype=torch.float32)  # type: ignore[call-arg]  # its stub names neither
        held = hold_still(policy, plan.hold, plan.block)
        trained = adapted(policy, plan.hold, plan.block, plan.lora_rank, plan.seed) if plan.lora_rank else policy.model
        return policy, trained, held

    def _written_reference(self) -> Path:
        # One for each process: nobody reads another's half-written file; and anew: a kill may have cut it short.
        folder = self.folder / f"reference-{rank()}"
        shutil.rmtree(folder, ignore_errors=True)
        return self.source.save(folder)

    def watching(self, asked: list[list[Turn]] | None, gold: Scorer | None) -> Watching | None:
        """Return what watches the run."""
        if asked is None:
            return None
        plan = self.plan
        watch = Watch(self.policy, self.reference, asked, plan.max_new_tokens, plan.seed, self.scorer, gold)
        return Watching(watch, self.folder, plan.watch_every, plan.patience, plan.max_kl)

    def train(self, rows: Rows, data: PolicyData, watching: Watching | None, *, resume: bool) -> PolicyResult:
        """Train; what comes out is in `policy`."""
        if watching and resume:
            watching.looks = watching.read()
        # A run that had come to its stop when it was interrupted learns nothing more.
        losses = losses_before(self.folder) if watching and watching.stopped else self._learn(rows, watching, resume)
        if watching and (best := watching.kept()):
            self.trained.load_state_dict(best, strict=False)
        last = watching.looks[-1].step if watching else len(losses)
        return PolicyResult(
            plan=self.plan,
            rows=len(rows.rows),
            left_out=rows.left_out,
            steps=last,
            stopped=watching.stopped if watching else "",
            kept_step=watching.best.step if watching else last,
            losses=tuple(losses[:last]),
            looks=tuple(watching.looks) if watching else (),
            held=tuple(self.held),
            provenance=Provenance(
                model=self.source.name,
                model_hash=self.source.weights_hash,
                data={data.name: data.content_hash},
                seed=self.plan.seed,
            ),
        )

    def _learn(self, rows: Rows, watching: Watching | None, resume: bool) -> list[float]:
        """Train, and bring together what several processes hold; return every step's loss."""
        callbacks: list[Any] = [StopAtNaN(self.folder)]
        callbacks += [watching] if watching else []
        callbacks += [TellProgress(self.progress, f"aligning by {self.plan.method}")] if self.progress else []
        ordered = in_order(rows.rows, self.plan.steps * self.plan.batch_size, self.plan.seed)
        trainer = Making(
            self.plan, self.policy, self.reference, self.trained, ordered, self.scorer, self.folder, self.save_every,
            callbacks,
        ).trainer()  # fmt: skip
        run_trainer(trainer, self.folder, resume)
        self.trained = gathered(trainer, self.trained, lambda: self._copy()[1])
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    def finish(self, result: PolicyResult, output: Path) -> None:
        """Save the policy, prove what had to stay still, and clear away."""
        model = self.trained
        if self.plan.lora_rank:
            model = model.merge_and_unload(adapter_names=["default"])  # TRL may have added a reference's
        model.to(self.source.dtype)
        model.config.name_or_path = self.source.model.config.name_or_path
        ChatModel(model, self.source.tokenizer, name=self.source.name).save(output)
        if self.held:
            check_unmoved(
                ChatModel.load(output, dtype=self.source.dtype).model, fingerprint(self.source.model, self.held)
            )
        result.write(output / RECORD)
        shutil.rmtree(self.folder, ignore_errors=True)
