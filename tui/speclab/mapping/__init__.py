"""Field mapping: checks and compiles the table, applies it to records, and explains the results."""

from speclab.mapping.lint import check_mapping, compile_mapping, lint
from speclab.mapping.mapper import Evaluation, Mapper, RowResult
from speclab.mapping.problems import MappingFailure, RowFailure

__all__ = [
    "Evaluation",
    "Mapper",
    "MappingFailure",
    "RowFailure",
    "RowResult",
    "check_mapping",
    "compile_mapping",
    "lint",
]
