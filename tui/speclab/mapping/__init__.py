"""The Field Mapping table as a program: checked, compiled, applied to records, explained."""

from speclab.mapping.assembly import compile_mapping
from speclab.mapping.failure import MappingFailure, RowFailure
from speclab.mapping.lint import check_mapping, lint
from speclab.mapping.mapper import Mapper, RowResult

__all__ = ["Mapper", "MappingFailure", "RowFailure", "RowResult", "check_mapping", "compile_mapping", "lint"]
