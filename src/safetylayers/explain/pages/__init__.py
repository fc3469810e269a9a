"""Explanations as pages."""

from __future__ import annotations

from safetylayers.explain.pages.overview import overview_page
from safetylayers.explain.pages.page import comparison_page, explanation_page

__all__ = ["comparison_page", "explanation_page", "overview_page"]
