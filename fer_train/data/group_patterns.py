"""How well-known data sets name people and clips; apart, so that help needs no numpy."""

from collections.abc import Mapping
from types import MappingProxyType

GROUP_PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "ckplus": r"(?:^|/)(S\d{3})_\d{3}_\d{8}(?:\.\w+)?$",
        "jaffe": r"(?:^|/)([A-Z]{2})\.[A-Z]{2}\d+\.\d+(?:\.\w+)?$",
        "kdef": r"(?:^|/)[AB]([FM]\d{2})(?:AF|AN|DI|HA|NE|SA|SU)(?:S|HL|HR|FL|FR)(?:\.\w+)?$",
        # All but the number of the frame; a name that is a number alone tells no clip.
        "frames": r"(?:^|/)((?!\d+(?:\.\w+)?$)[^/]+?)[-_. ]*(?:frame|frm|fr|f)?[-_. ]*\d+"
        r"(?:\.\w+)?$",
    }
)
"""Patterns by name: the first group of the match is the person, or the clip."""
