"""The JSON Schema of the config file, for editors that complete and check it."""

from __future__ import annotations

from typing import Any

from snowmelt.choices import Extraction, KeyType, Snapshot
from snowmelt.config.environment import VARIABLE
from snowmelt.config.load_mode import LoadMode
from snowmelt.config.models import ConfigFile

_NULL = {"type": "null"}
_VARIABLE = {"type": "string", "pattern": VARIABLE}
_CHOICES = {f"#/$defs/{kind.__name__}" for kind in (KeyType, LoadMode, Snapshot, Extraction)}
"""References that stand for one of a few texts."""


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. Null stands where a value is optional, `${VAR}` also for numbers."""
    schema = ConfigFile.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        if "properties" in model:
            _finish(model)
    return {
        **schema,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "snowmelt config",
    }


def _finish(model: dict[str, Any]) -> None:
    required = model.get("required", ())
    for name, setting in model["properties"].items():
        model["properties"][name] = _property(setting, optional=name not in required)


def _property(setting: dict[str, Any], *, optional: bool) -> dict[str, Any]:
    """One property: its notes, and beside them the list of what it accepts."""
    notes: dict[str, Any] = {
        key: setting[key] for key in ("description", "default", "deprecated") if key in setting
    }
    if notes.get("default", 0) is None:
        del notes["default"]
    if setting.get("deprecated"):
        return notes
    value = {k: v for k, v in setting.items() if k not in notes and k not in ("title", "default")}
    accepted = [option for option in value.get("anyOf", [value]) if option != _NULL]
    accepted = [_value(option) for option in accepted]
    if not all(_takes_text(option) for option in accepted):
        accepted += [] if _is_tree(accepted) else [_VARIABLE]
    if optional:
        accepted.append(_NULL)
    return {**notes, **(accepted[0] if len(accepted) == 1 else {"anyOf": accepted})}


def _value(option: dict[str, Any]) -> dict[str, Any]:
    """Items of a list take variables too, where they are no free text."""
    items = option.get("items")
    if option.get("type") != "array" or not items or "$ref" not in items:
        return option
    if items["$ref"] not in _CHOICES:
        return option
    return {**option, "items": {"anyOf": [items, _VARIABLE]}}


def _takes_text(option: dict[str, Any]) -> bool:
    """Free text, which may hold variables anyway."""
    return option.get("type") == "string" and "enum" not in option and "pattern" not in option


def _is_tree(accepted: list[dict[str, Any]]) -> bool:
    return any(
        option.get("type") in ("array", "object")
        or ("$ref" in option and option["$ref"] not in _CHOICES)
        for option in accepted
    )
