"""The main road on the practice model: locate, undo safety with and without protection, measure, report."""

from safetylayers.demo.study import DemoResult, run_demo

__all__ = ["DemoResult", "run_demo"]
