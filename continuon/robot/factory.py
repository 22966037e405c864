"""How one process tells another what to build: an import string and JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import attrs

from continuon.errors import UsageError

__all__ = ["Factory"]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(values)


@attrs.frozen(kw_only=True)
class Factory:
    """A callable by name, `package.module:function`, and its keyword arguments.

    Arguments are JSON values, so that the whole of it can cross a process border.
    """

    target: str
    kwargs: Mapping[str, Any] = attrs.field(factory=dict, converter=_plain)

    def build(self, *args: Any, **more: Any) -> Any:
        """Import the callable and call it, with `more` arguments of this process.

        Raises:
            UsageError: E-ROBOT-FACTORY-001, no such callable.
        """
        module_name, _, attribute = self.target.partition(":")
        try:
            made = getattr(import_module(module_name), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise UsageError(
                "E-ROBOT-FACTORY-001",
                f"there is nothing to build here: {error}",
                seen=self.target,
                allowed="package.module:function",
            ) from error
        return made(*args, **self.kwargs, **more)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"target": self.target, "kwargs": dict(self.kwargs)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Factory:
        """Return what `as_dict` spelt."""
        return cls(target=values["target"], kwargs=values.get("kwargs", {}))
