"""Hostile and benign archives and directories: each public trick on a model that is otherwise in order."""

from attacks.artifacts import BenignCase, HostileCase
from attacks.artifacts.hostile_directories import list_directories
from attacks.artifacts.hostile_manifests import list_manifests, list_settings
from attacks.artifacts.hostile_names import list_names
from attacks.artifacts.hostile_zips import list_other_formats, list_zips
from attacks.artifacts.ordinary_archives import list_packed, list_stock

__all__ = ["list_benign", "list_hostile", "list_stock"]


def list_hostile() -> list[HostileCase]:
    """Return all hostile archives and directories."""
    files = [*list_zips(), *list_other_formats(), *list_names(), *list_manifests(), *list_settings()]
    return [*files, *list_directories()]


def list_benign() -> list[BenignCase]:
    """Return packed models; for stock's own archives, which have to be converted first, see `list_stock`."""
    return list_packed()
