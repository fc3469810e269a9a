"""What somebody who holds the safety layers' file knows: heads and thresholds, differentiably.

`attack.embedding` takes it as its watcher, so that a defence is tested by an attacker who optimises against it.
Shapes: B rows, T tokens, N real tokens of all rows, H hidden size, S attached layers, K heads, G guarding heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from safetylayers.attach.heads import pooled
from safetylayers.attach.layers import SafetyLayers


class KnownLayers:
    """The gate as its attacker sees it."""

    def __init__(self, layers: SafetyLayers, *, margin: float = 0.5) -> None:
        """Take the layers, and by how much (log-odds) to stay below their thresholds."""
        self.margin = margin
        self.layers: Sequence[int] = layers.record.layers
        self._safety_layers, self._record = layers, layers.record

    def penalty(self, hidden: Sequence[Tensor], real_BT: Tensor, prompt_ends_B: Tensor) -> Tensor:
        """Return by how much each row comes too near to a threshold, at its prompt's end or in its reply: [B].

        Args:
            hidden: of the attached layers, [B, T, H] each, first to last.
            real_BT: False at padding.
            prompt_ends_B: column of each row's last prompt token.
        """
        rows, columns = real_BT.shape
        hidden_SNH = torch.stack([layer.to(real_BT.device).float()[real_BT] for layer in hidden])
        segments_N = torch.arange(rows, device=real_BT.device)[:, None].expand(rows, columns)[real_BT]
        heads = self._safety_layers.modules_on(hidden_SNH.device).heads
        scores_NK = pooled(heads(hidden_SNH), segments_N, rows, len(heads.names)).mean(0)
        column_N = torch.arange(columns, device=real_BT.device).expand(rows, columns)[real_BT]
        ends_N = prompt_ends_B[segments_N]
        too_high_B = torch.zeros(rows, device=hidden_SNH.device)
        for k, head in enumerate(self._record.heads):
            known = self._record.calibration[head]
            if known.thresholds is None:
                continue
            at_end_N = known.prompt_scale * scores_NK[:, k] + known.prompt_offset - known.thresholds.prompt
            # A reply that stays below the lower of both thresholds opens the gate in no way.
            limit = min(known.thresholds.mean, known.thresholds.peak)
            in_reply_N = known.reply_scale * scores_NK[:, k] + known.reply_offset - limit
            above_N = torch.where(column_N == ends_N, at_end_N, in_reply_N)
            hinge_N = (above_N + self.margin).clamp(min=0) * (column_N >= ends_N)
            too_high_B = too_high_B.index_add(0, segments_N, hinge_N)
        return too_high_B
