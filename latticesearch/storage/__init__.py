"""All files of a run: atomic, durable, one writer."""

from __future__ import annotations

from latticesearch.storage.atomic import write_bytes_atomic, write_text_atomic
from latticesearch.storage.cif import cif_bytes
from latticesearch.storage.directory import SCRATCH, RunDirectory, is_run_directory
from latticesearch.storage.lock import writer_of
from latticesearch.storage.potentials import write_cfg, write_mtp
from latticesearch.storage.results import OracleStore, StoredResult, latest_by_key

__all__ = [
    "SCRATCH",
    "OracleStore",
    "RunDirectory",
    "StoredResult",
    "cif_bytes",
    "is_run_directory",
    "latest_by_key",
    "write_bytes_atomic",
    "write_cfg",
    "write_mtp",
    "write_text_atomic",
    "writer_of",
]
