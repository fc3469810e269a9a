"""A model known by its weights."""

from __future__ import annotations

import hashlib

from torch import nn


def hash_weights(model: nn.Module) -> str:
    """Return the SHA-256 over name, shape and values of every parameter and persistent buffer, sorted by name.

    Tied tensors count once, under their first name. Neither device nor dtype counts: values are hashed as
    float32, which holds every bfloat16 exactly, so such weights keep their hash when they are loaded as float32.
    """
    digest = hashlib.sha256()
    seen: set[int] = set()
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
        digest.update(values.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
