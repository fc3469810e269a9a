"""Find a model's safety layers and write them down as a map (arXiv 2408.17003, section 3)."""

from safetylayers.locate.change import MapChange, compare_maps
from safetylayers.locate.safety_map import MapRecord, SafetyMap
from safetylayers.locate.search import locate

__all__ = ["MapChange", "MapRecord", "SafetyMap", "compare_maps", "locate"]
