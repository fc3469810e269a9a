"""Whatever replies to prompts: a model in this process, a server behind a URL, or either of them behind a defence."""

from safetylayers.targets.base import Reply, Target
from safetylayers.targets.client import ChatClient
from safetylayers.targets.local import ModelTarget
from safetylayers.targets.remote import UrlTarget

__all__ = ["ChatClient", "ModelTarget", "Reply", "Target", "UrlTarget"]
