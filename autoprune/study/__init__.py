"""The run directory: SQLite study, result files, lock, resume, reconcile. One coordinator is its only writer."""

from autoprune.study.directory import RunDirectory
from autoprune.study.ledger import Ledger, Question

__all__ = ["Ledger", "Question", "RunDirectory"]
