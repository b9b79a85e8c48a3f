"""speclab: the spec is the integration. Edit it, map it, run it and watch it run.

Scripts use `RunLog` to report runs of their own, and `RunLogReader` to read the run log.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speclab.core.errors import SpeclabError
    from speclab.runlog import RunLog, RunLogReader

__version__ = "0.1.0"
__all__ = ["RunLog", "RunLogReader", "SpeclabError", "__version__"]


def __getattr__(name: str) -> object:
    """The public names, loaded when they are first asked for: `speclab --help` needs none of them."""
    if name == "SpeclabError":
        from speclab.core.errors import SpeclabError

        return SpeclabError
    if name in ("RunLog", "RunLogReader"):
        import speclab.runlog

        return getattr(speclab.runlog, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
