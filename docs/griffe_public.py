"""API reference: a name that a package re-exports is shown once, in the module that defines it."""

from __future__ import annotations

from typing import Any

import griffe


class ShowOnce(griffe.Extension):
    """Hide re-exported names whose module is itself on the page.

    Names from private modules, such as the losses, stay with their package.
    """

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Shorten the exports of a package and of the packages inside it."""
        for module in pkg.modules.values():
            if not module.is_alias:
                self.on_package(pkg=module)
        pkg.exports = [name for name in pkg.exports or [] if not _is_shown_below(pkg, str(name))]


def _is_shown_below(package: griffe.Module, name: str) -> bool:
    member = package.members.get(name)
    if not isinstance(member, griffe.Alias):
        return False
    below = member.target_path.removeprefix(f"{package.path}.")
    return below != member.target_path and not below.startswith("_")
