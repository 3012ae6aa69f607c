"""What a reload changes: settings that a running agent can take on, and those that wait for a restart."""

from __future__ import annotations

from dataclasses import dataclass, replace

from local_agent.settings.model import OPTIONS, Settings, attribute_of


@dataclass(frozen=True)
class Reload:
    """The settings in force after a reload, and the keys that changed."""

    settings: Settings
    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]

    def in_words(self) -> str:
        """Say what changed, for the journal and for the one who asked."""
        parts = [", ".join(self.changed)] if self.changed else ["nothing changed"]
        if self.needs_restart:
            parts.append(f"only a restart applies {', '.join(self.needs_restart)}")
        return "; ".join(parts)


def reload(old: Settings, new: Settings) -> Reload:
    """Given the settings in force and those just read, return what is in force from now on."""
    different = [option for option in OPTIONS if old.get(option) != new.get(option)]
    kept = [option for option in different if not option.reloadable]
    settings = replace(new, **{attribute_of(option): old.get(option) for option in kept})
    return Reload(
        settings,
        changed=tuple(option.key for option in different if option.reloadable),
        needs_restart=tuple(option.key for option in kept),
    )
