"""A language model as the rest of the house sees it.

Hidden state k is the output of decoder layer k, before the final norm. Texts are rendered: special tokens included.
Shapes: B rows, T tokens, H hidden size, L layers, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from safetylayers.errors import OutputError, UsageError
from safetylayers.models import interventions, loading
from safetylayers.models.batching import run_batched
from safetylayers.models.generation import GumbelNoise, greedy, until_end
from safetylayers.models.hashing import hash_weights
from safetylayers.models.scaling import scaled
from safetylayers.models.structure import find_decoder_layers, text_config
from safetylayers.models.tokens import Batch, pad_left
from safetylayers.records import ProgressCallback

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_SIZE, SMALL_BATCH_SIZE, SMALL = 64, 512, 50_000_000
"""Rows at once; more of a model with fewer than `SMALL` parameters, whose time goes into calls, not into arithmetic."""


class ChatModel:
    """A causal language model, its tokenizer, and its decoder layers."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str = "",
        batch_size: int | None = None,
    ) -> None:
        """Wrap a loaded model; it is put into evaluation mode.

        Raises:
            UnknownArchitectureError: its decoder layers cannot be found.
        """
        self.model = model
        model.train(False)
        self.tokenizer = tokenizer
        self.name = name or model.name_or_path or type(model).__name__
        self.layers = find_decoder_layers(model)
        small = sum(parameter.numel() for parameter in model.parameters()) < SMALL
        self.batch_size = batch_size or (SMALL_BATCH_SIZE if small else BATCH_SIZE)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        dtype: str | torch.dtype | None = None,
        device: str | None = None,
        batch_size: int | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> ChatModel:
        """Load a model from a folder, from the hub, or the practice model ("tiny", "tiny-base").

        Args:
            source: folder, hub id or practice model.
            dtype: by itself float32 on a CPU, bfloat16 elsewhere.
            device: by itself the best there is; with CUDA, spread over all cards by accelerate.
            batch_size: at most so many rows at once; it is halved when memory runs out.
            revision: of a hub model.
            trust_remote_code: run modelling code that comes with the model.

        Raises:
            ModelError: the model cannot be loaded; its kinds say why.
        """
        model, tokenizer = loading.load(
            source, dtype=dtype, device=device, revision=revision, trust_remote_code=trust_remote_code
        )
        return cls(model, tokenizer, name=str(source), batch_size=batch_size)

    @property
    def n_layers(self) -> int:
        """How many decoder layers there are."""
        return len(self.layers)

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return int(text_config(self.model).hidden_size)

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        embeddings: nn.Module = self.model.get_input_embeddings()
        kept = embeddings.get_parameter("weight").device
        if kept.type != "meta":
            return kept
        # accelerate keeps these weights elsewhere and brings them in for the pass.
        return torch.device(getattr(getattr(embeddings, "_hf_hook", None), "execution_device", None) or "cpu")

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are kept in."""
        return next(self.model.parameters()).dtype

    @property
    def ends_of_text(self) -> tuple[int, ...]:
        """Tokens that end a reply; empty where the model has none."""
        config = self.model.generation_config
        ends = config.eos_token_id if config is not None else None
        ends = self.tokenizer.eos_token_id if ends is None else ends
        if ends is None:
            return ()
        return tuple(ends) if isinstance(ends, list) else (ends,)

    @property
    def architecture(self) -> str:
        """The model's class in transformers."""
        return type(self.model).__name__

    @cached_property
    def weights_hash(self) -> str:
        """`hashing.hash_weights` of the weights as they were when first asked for."""
        return self.fresh_weights_hash()

    def fresh_weights_hash(self) -> str:
        """Hash the weights as they are now."""
        return hash_weights(self.model)

    def tokenize(self, texts: Sequence[str]) -> Batch:
        """Tokenise rendered texts into one left-padded batch.

        Raises:
            UsageError: there is no text, or one has no token.
        """
        return self.batch_of(self._token_ids(texts))

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            raise UsageError("There is nothing to read: no prompts were given.", mend="Give at least one prompt.")
        token_ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False).input_ids
        if not all(token_ids):
            raise UsageError("A prompt is empty: it has no token.", mend="Leave empty prompts out.")
        return token_ids

    def batch_of(self, token_ids: Sequence[Sequence[int]]) -> Batch:
        """Return token sequences as one left-padded batch. A pad is never attended to: any token serves."""
        return pad_left(token_ids, self.tokenizer.pad_token_id or 0, self.device)

    @cached_property
    def forward_options(self) -> frozenset[str]:
        """Names of what a forward pass of this model takes."""
        return frozenset(inspect.signature(self.model.forward).parameters)

    def _forward(self, batch: Batch, *, last: int) -> Tensor:
        """Return the logits at the `last` positions, [B, last, V], without gradients."""
        with torch.inference_mode():
            return self.logits(batch, last=last)

    def logits(self, batch: Batch, *, last: int, embedded: Tensor | None = None) -> Tensor:
        """Return the logits at the `last` positions, [B, last, V], in the model's dtype and with its gradients.

        Args:
            batch: token sequences.
            last: positions, counted from the end.
            embedded: embeddings [B, T, H] that are read in place of the batch's tokens.
        """
        read = {"input_ids": batch.input_ids} if embedded is None else {"inputs_embeds": embedded}
        options: dict[str, Any] = {**read, "attention_mask": batch.attention_mask}
        if "position_ids" in self.forward_options:
            options["position_ids"] = batch.position_ids
        if "logits_to_keep" in self.forward_options:
            options["logits_to_keep"] = last
        logits: Tensor = self.model(**options, use_cache=False).logits
        return logits[:, -last:]

    def next_token_logits(self, batch: Batch) -> Tensor:
        """Return the logits of the token after the prompt: float32 [B, V]. One forward pass."""
        return self._forward(batch, last=1)[:, -1].float()

    def hidden_states(
        self,
        texts: Sequence[str],
        *,
        layers: Sequence[int] | None = None,
        positions: Sequence[int] = (-1,),
        progress: ProgressCallback | None = None,
    ) -> Tensor:
        """Read hidden states with one forward pass a prompt.

        Args:
            texts: rendered prompts.
            layers: which ones, by itself all.
            positions: of tokens, counted within each prompt; -1 is its last one.
            progress: told after each batch.

        Returns:
            float32 on the CPU, [prompts, layers, positions, H].

        Raises:
            UsageError: a prompt is shorter than a position asks.
        """
        token_ids = self._token_ids(texts)
        wanted = range(self.n_layers) if layers is None else layers
        shortest = min(map(len, token_ids))
        if any(not -shortest <= position < shortest for position in positions):
            raise UsageError(f"A prompt has only {shortest} tokens: positions {list(positions)} are not all within it.")

        def work(indices: list[int]) -> list[Tensor]:
            batch = self.batch_of([token_ids[index] for index in indices])
            width = batch.input_ids.shape[1]
            lengths_B = batch.attention_mask.sum(dim=1)
            starts_B = width - lengths_B
            columns_BP = torch.stack([starts_B + (p if p >= 0 else lengths_B + p) for p in positions], dim=1)

            def keep(hidden_BTH: Tensor) -> Tensor:
                columns = columns_BP.to(hidden_BTH.device)[..., None].expand(-1, -1, hidden_BTH.shape[-1])
                return hidden_BTH.gather(1, columns).float().cpu()

            with interventions.captured(self.layers, wanted, keep) as found:
                self._forward(batch, last=1)
            return list(torch.stack([found[layer] for layer in wanted], dim=1))

        rows = run_batched(list(map(len, token_ids)), self.batch_size, work, what="hidden states", progress=progress)
        return torch.stack(rows)

    def generate(
        self, texts: Sequence[str], *, max_new_tokens: int = 64, progress: ProgressCallback | None = None
    ) -> list[str]:
        """Generate greedily; return the replies without special tokens."""
        return self.generate_after(self._token_ids(texts), max_new_tokens=max_new_tokens, progress=progress)

    def generate_after(
        self, token_ids: Sequence[Sequence[int]], *, max_new_tokens: int = 64, progress: ProgressCallback | None = None
    ) -> list[str]:
        """Generate greedily after token sequences, none of them empty; for tokens that no text is read as."""

        def work(indices: list[int]) -> list[str]:
            batch = self.batch_of([token_ids[index] for index in indices])
            given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            return self._texts(self._generate(given, max_new_tokens, self.ends_of_text))

        return run_batched(list(map(len, token_ids)), self.batch_size, work, what="replies", progress=progress)

    def sample(
        self,
        texts: Sequence[str],
        *,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        seed: int = 0,
        progress: ProgressCallback | None = None,
    ) -> list[str]:
        """Draw a reply to each text from the model's own distribution; return them without special tokens.

        Raises:
            UsageError: the temperature is not above 0, or a text has no token.
        """
        drawn = self.sample_tokens(
            texts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed, progress=progress
        )
        return self._texts(drawn)

    def sample_tokens(
        self,
        texts: Sequence[str],
        *,
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        seed: int = 0,
        ends: Sequence[int] | None = None,
        progress: ProgressCallback | None = None,
    ) -> list[list[int]]:
        """Draw a reply to each text; return its tokens, its end included where it came to one.

        Args:
            texts: rendered prompts; to draw several replies, name one several times.
            max_new_tokens: longest reply.
            temperature: logits are divided by it; towards 0, it is greedy generation.
            seed: each reply's noise follows from it and the reply's place. Batches change the last digits of logits at
                most, which matters where two tokens are next to equal; more often in bfloat16 than in float32.
            ends: tokens that end a reply, by themselves the model's own.
            progress: told after each batch.

        Raises:
            UsageError: the temperature is not above 0, or a text has no token.
        """
        if not 0 < temperature < float("inf"):
            raise UsageError(f"A temperature of {temperature} makes no sense.", mend="Use one above 0, such as 1.")
        token_ids = self._token_ids(texts)
        ended = self.ends_of_text if ends is None else ends

        def work(indices: list[int]) -> list[list[int]]:
            batch = self.batch_of([token_ids[index] for index in indices])
            given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            noise = GumbelNoise([f"{seed} {index}" for index in indices], temperature)
            return self._generate(given, max_new_tokens, ended, noise)

        return run_batched(list(map(len, token_ids)), self.batch_size, work, what="replies", progress=progress)

    def generate_from(self, embedded: Tensor, attention_mask: Tensor, *, max_new_tokens: int = 64) -> list[str]:
        """Generate greedily from embeddings [B, T, H], padded on the left as the mask [B, T] says."""
        given = {"inputs_embeds": embedded, "attention_mask": attention_mask}
        return self._texts(self._generate(given, max_new_tokens, self.ends_of_text))

    def _texts(self, replies: list[list[int]]) -> list[str]:
        decoded: list[str] = self.tokenizer.batch_decode(replies, skip_special_tokens=True)
        return [reply.strip() for reply in decoded]

    def _generate(
        self,
        given: Mapping[str, Tensor],
        max_new_tokens: int,
        ends: Sequence[int],
        noise: GumbelNoise | None = None,
    ) -> list[list[int]]:
        """Take the likeliest token each time, after noise if there is any; return each reply's, its end included."""
        settings = greedy(max_new_tokens, ends, self.tokenizer.pad_token_id)
        with torch.inference_mode():
            output: Tensor = self.model.generate(  # type: ignore[operator]  # nn.Module's stub hides the method
                **given, generation_config=settings, logits_processor=[noise] if noise else None
            )
        # From embeddings, transformers returns what is new alone.
        start = given["input_ids"].shape[1] if "input_ids" in given else 0
        return [until_end(row, ends) for row in output[:, start:].tolist()]

    def last_logits(self, batch: Batch, length: int) -> Tensor:
        """Return the logits after each of a row's last `length` tokens: float32 [B, length, V], without gradients."""
        return self._forward(batch, last=length).float()

    def next_logprobs(self, batch: Batch, length: int) -> Tensor:
        """Return log P of every token after each of a row's last `length` tokens: float64 [B, length, V]."""
        return self._forward(batch, last=length).double().log_softmax(-1)

    def reply_logprobs(
        self, texts: Sequence[str], replies: Sequence[str], *, progress: ProgressCallback | None = None
    ) -> list[Tensor]:
        """Return log P of every token of each reply after its prompt: float64 on the CPU, [reply's tokens].

        Raises:
            UsageError: texts and replies are not equally many, or one is empty.
        """
        if len(texts) != len(replies):
            raise UsageError(f"{len(texts)} prompts but {len(replies)} replies.", mend="Give one reply a prompt.")
        asked, answered = self._token_ids(texts), self._token_ids(replies)

        def work(indices: list[int]) -> list[Tensor]:
            batch = self.batch_of([asked[index] + answered[index] for index in indices])
            longest = max(len(answered[index]) for index in indices)
            logprobs_BTV = self.next_logprobs(batch, longest + 1)[:, :-1]
            targets_BT = batch.input_ids[:, -longest:].to(logprobs_BTV.device)
            chosen_BT = logprobs_BTV.gather(-1, targets_BT[..., None])[..., 0].cpu()
            return [chosen_BT[row, longest - len(answered[index]) :] for row, index in enumerate(indices)]

        lengths = [len(a) + len(b) for a, b in zip(asked, answered, strict=True)]
        return run_batched(lengths, self.batch_size, work, what="log-probabilities", progress=progress)

    def opening_logprobs(
        self, texts: Sequence[str], openings: Sequence[str], *, progress: ProgressCallback | None = None
    ) -> Tensor:
        """Return log P(reply begins with opening | prompt): float64 on the CPU, [texts, openings]."""
        pairs = [(text, opening) for text in texts for opening in openings]
        logprobs = self.reply_logprobs(
            [text for text, _ in pairs], [opening for _, opening in pairs], progress=progress
        )
        return torch.stack([tokens.sum() for tokens in logprobs]).view(len(texts), len(openings))

    @contextmanager
    def scale(self, alpha: float | Tensor, first: int = 0, last: int | None = None) -> Iterator[None]:
        """Within the block, act as if attention and MLP projection weights were multiplied by alpha.

        Args:
            alpha: one number for layers `first` to `last`, or one a row and layer: [B, L], 1 leaves a layer alone.
            first: first scaled layer.
            last: last scaled layer, inclusive; by itself the last there is.

        Raises:
            UsageError: there are no such layers.
        """
        final = self.n_layers - 1 if last is None else last
        if isinstance(alpha, Tensor):
            if alpha.dim() != 2 or alpha.shape[1] != self.n_layers:
                raise UsageError(f"Alphas of shape {tuple(alpha.shape)}: expected [rows, {self.n_layers}].")
            touched = [layer for layer in range(self.n_layers) if bool((alpha[:, layer] != 1).any())]
        else:
            self._check_layers(first, final)
            touched = list(range(first, final + 1)) if alpha != 1 else []
        with ExitStack() as stack:
            for layer in touched:
                factor = alpha[:, layer] if isinstance(alpha, Tensor) else alpha
                stack.enter_context(scaled(self.layers[layer], factor))
            yield

    def _check_layers(self, first: int, last: int) -> None:
        if not 0 <= first <= last < self.n_layers:
            raise UsageError(
                f"There are no layers {first} to {last}.", mend=f"{self.name} has layers 0 to {self.n_layers - 1}."
            )

    @contextmanager
    def steer(self, layer: int, direction: Tensor, strength: float | Tensor) -> Iterator[None]:
        """Within the block, add strength times `direction` [H] to a layer's output; one strength, or one a row [B]."""
        self._check_layers(layer, layer)
        with interventions.changed_output(self.layers[layer], interventions.add_direction(direction, strength)):
            yield

    @contextmanager
    def patch(self, layer: int, values: Tensor, position: int = -1) -> Iterator[None]:
        """Within the block, a layer's output at one column of the batch is `values` [B, H]."""
        self._check_layers(layer, layer)
        with interventions.changed_output(self.layers[layer], interventions.replace_position(values, position)):
            yield

    @contextmanager
    def capture(self, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
        """Within the block, each forward pass leaves the outputs of `layers` in the dictionary: layer -> [B, T, H]."""
        with interventions.captured(self.layers, layers, lambda hidden: hidden) as found:
            yield found

    @contextmanager
    def flowing(self, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
        """Like `capture`, but gradients flow through what is left in the dictionary."""
        with interventions.captured(self.layers, layers, lambda hidden: hidden, detached=False) as found:
            yield found

    @contextmanager
    def resume_from(self, layer: int, hidden: Tensor) -> Iterator[None]:
        """Within the block, forward passes start at `layer`, with `hidden` [B, T, H] as its input.

        What lies below the first layer that an experiment changes is the same in all its variants: compute it once.
        `layer` may be the number of layers: then the final norm and the head alone read `hidden`.
        """
        if layer != self.n_layers:
            self._check_layers(layer, layer)
        with interventions.resumed(self._stack, layer, hidden):
            yield

    @contextmanager
    def stop_after(self, layer: int) -> Iterator[None]:
        """Within the block, forward passes skip the layers above `layer`: for when its output is all that is wanted."""
        self._check_layers(layer, layer)
        with interventions.stopped(self._stack, layer):
            yield

    @cached_property
    def _stack(self) -> nn.ModuleList:
        return next(
            module
            for module in self.model.modules()
            if isinstance(module, nn.ModuleList) and len(module) == len(self.layers) and module[0] is self.layers[0]
        )

    def save(self, folder: str | Path) -> Path:
        """Save as a transformers folder with safetensors. Raises OutputError."""
        from safetensors import SafetensorError

        target = Path(folder)
        try:
            self.model.save_pretrained(target)
            self.tokenizer.save_pretrained(target)
        except (OSError, SafetensorError) as error:
            raise OutputError(
                f"{target}: the model cannot be saved ({getattr(error, 'strerror', None) or error}).",
                mend="Free some room, or choose another folder.",
            ) from error
        return target
