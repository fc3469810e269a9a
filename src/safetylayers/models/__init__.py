"""A model seen as a stack of layers: load it, read it, scale, steer and patch it, let it speak."""

from safetylayers.models.chat_model import ChatModel
from safetylayers.models.freezing import Scope, freeze_layers
from safetylayers.models.structure import find_decoder_layers, projections
from safetylayers.models.tokens import Batch

__all__ = ["Batch", "ChatModel", "Scope", "find_decoder_layers", "freeze_layers", "projections"]
