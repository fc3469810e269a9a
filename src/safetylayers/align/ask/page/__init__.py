"""A web page on this machine on which people answer; needs the `serve` extra."""

from safetylayers.align.ask.page.app import create_app
from safetylayers.align.ask.page.serving import serve

__all__ = ["create_app", "serve"]
