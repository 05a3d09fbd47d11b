"""Flat YAML presets; read them with ``egopose.config.load_preset``."""
