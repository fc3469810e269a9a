"""The exception tree. Every error a user can cause is one of these; each has a page in `docs/errors/`.

SafetyLayersError
├── UsageError                   an option or a configuration file makes no sense
├── DataError                    a prompt set or a data set cannot be used
├── ModelError                   a model cannot be used
│   ├── UnknownArchitectureError   its decoder layers cannot be found
│   ├── UnsafeWeightsError         its weights are pickled
│   └── MissingChatTemplateError   its tokenizer has no chat template
├── MapError                     a safety map cannot be used
│   ├── WrongModelError            the map belongs to another model
│   └── NoSafetyLayersError        the model has no safety layers to use
├── LayersError                  attached safety layers cannot be used
├── TrainingError                a training run cannot go on
│   ├── NonFiniteLossError         the loss became NaN or infinite
│   └── FrozenTensorError          a tensor that had to stay still has moved
├── JudgeError                   a judge cannot give its verdict
├── EndpointError                a server that is asked gives no usable answer
├── OutputError                  a result cannot be written
└── OversightError               the gateway cannot do what it is there for
    ├── PolicyError                a policy file makes no sense
    ├── StoreError                 the database cannot be used
    ├── AuditError                 the log does not verify, or cannot be written
    ├── AccessError                this person or key may not do this
    ├── ModeError                  the mode does not allow it
    ├── EngineError                the model gives no reply, or broke off
    │   ├── PromptError              the model cannot read this prompt
    │   └── BusyError                too many requests wait already
    └── GuardError                 a guard cannot be made, or cannot give its verdict
"""

from __future__ import annotations


class SafetyLayersError(Exception):
    """What is wrong, and in `mend` what the user can do about it.

    `page` names the error's page under `docs/errors/`.
    """

    page = "safetylayers-error"

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.message}\n{self.mend}" if self.mend else self.message


class UsageError(SafetyLayersError):
    """An option, an argument or a configuration file makes no sense."""

    page = "usage-error"


class DataError(SafetyLayersError):
    """A prompt set or a data set cannot be used. The message names the file and, where there is one, the line."""

    page = "data-error"


class ModelError(SafetyLayersError):
    """A model cannot be found, loaded or used."""

    page = "model-error"


class UnknownArchitectureError(ModelError):
    """The model's decoder layers, or the projections in them, cannot be found by structure."""

    page = "unknown-architecture"


class UnsafeWeightsError(ModelError):
    """The model's weights are pickled; loading a pickle runs whatever code is in it."""

    page = "unsafe-weights"


class MissingChatTemplateError(ModelError):
    """The tokenizer has no chat template, and none was chosen instead."""

    page = "missing-chat-template"


class MapError(SafetyLayersError):
    """A safety map is missing, damaged, or of an unknown version."""

    page = "map-error"


class WrongModelError(MapError):
    """The map's hash is not that of the weights in hand."""

    page = "wrong-model"


class NoSafetyLayersError(MapError):
    """The map says that its model has no safety layers, so there is nothing to hold still."""

    page = "no-safety-layers"


class LayersError(SafetyLayersError):
    """Attached safety layers are missing, damaged, of an unknown version, or do not fit."""

    page = "layers-error"


class TrainingError(SafetyLayersError):
    """A training run cannot start or cannot go on."""

    page = "training-error"


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite. The message names the step and the last good checkpoint."""

    page = "non-finite-loss"


class FrozenTensorError(TrainingError):
    """A tensor that a protected run had to hold still is not bitwise what it was."""

    page = "frozen-tensor"


class JudgeError(SafetyLayersError):
    """A judge cannot be loaded or does not answer."""

    page = "judge-error"


class EndpointError(SafetyLayersError):
    """A server that is asked cannot be reached, errs, or answers in another form."""

    page = "endpoint-error"


class OutputError(SafetyLayersError):
    """A result cannot be written: no room, no permission, or something is in the way."""

    page = "output-error"


class OversightError(SafetyLayersError):
    """The gateway, or a command that speaks to it, cannot do what it is there for."""

    page = "oversight-error"


class PolicyError(OversightError):
    """A policy file is missing, or something in it is unknown, missing or contradicts itself."""

    page = "policy-error"


class StoreError(OversightError):
    """The database cannot be opened, cannot be reached, is full, or is of another version."""

    page = "store-error"


class AuditError(OversightError):
    """The audit log does not verify (the message names the first bad entry), or cannot be written."""

    page = "audit-error"


class AccessError(OversightError):
    """A person or key is unknown, expired or locked out, or its role does not allow this."""

    page = "access-error"


class ModeError(OversightError):
    """The gateway is stopped or restricted, or a change of mode needs a second person."""

    page = "mode-error"


class EngineError(OversightError):
    """The model cannot make this reply, or broke off while it did."""

    page = "engine-error"


class PromptError(EngineError):
    """The model cannot read this prompt: it is empty, too long, or its template refuses it."""

    page = "prompt-error"


class BusyError(EngineError):
    """Too many requests wait already."""

    page = "busy-error"


class GuardError(OversightError):
    """A guard cannot be made from its settings, or cannot give its verdict."""

    page = "guard-error"
