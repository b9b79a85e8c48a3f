"""The Field Mapping table as a program: checked, compiled, applied to records, explained."""

from speclab.mapping.assembly import compile_mapping
from speclab.mapping.failure import MappingFailure, RowFailure
from speclab.mapping.mapper import Mapper, RowResult

__all__ = ["Mapper", "MappingFailure", "RowFailure", "RowResult", "compile_mapping"]
