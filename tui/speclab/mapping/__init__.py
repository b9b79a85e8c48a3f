"""The Field Mapping table as a program: checked, compiled, applied to records, explained."""

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
