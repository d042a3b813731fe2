"""Typed settings: every pydantic settings class of suites, training runs and models, and how YAML is read into them."""

from st2llm.config.base import Settings, load, parse, present_names, read_yaml, upgrade
from st2llm.config.safe_yaml import load_yaml

__all__ = ["Settings", "load", "load_yaml", "parse", "present_names", "read_yaml", "upgrade"]
