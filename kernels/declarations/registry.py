"""What is known by name: what the modules of a package declare, and what programs add."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """The declarations of one kind, by name. kind: what messages call them, "activation" say."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._known: dict[str, T] = {}
        self._aliases: dict[str, str] = {}
        self._own: frozenset[str] = frozenset()
        self._followers: list[Callable[[str, T], None]] = []
        self.kept: set[str] = set()  # names whose declarations are in compiled code that is not made anew

    def add(self, name: str, declaration: T, aliases: Sequence[str] = ()) -> None:
        """Make a declaration known; one that a program added before under this name is replaced.

        Raises ValueError for a name that is no identifier, and for one that the package has itself.
        """
        for each in (name, *aliases):
            self.check_new(each)
        self._known[name] = declaration
        self._aliases |= dict.fromkeys(aliases, name)
        for tell in self._followers:
            tell(name, declaration)

    def follow(self, tell: Callable[[str, T], None]) -> None:
        """Call tell(name, declaration) for all that is known, and from now on for whatever is added."""
        self._followers.append(tell)
        for name in self:
            tell(name, self[name])

    def check_new(self, name: Any) -> None:
        """Raise ValueError for a name that is no identifier, and for one that the package has itself."""
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"name must be an identifier, got {name!r}")
        if name in self._own:
            raise ValueError(f"name must be a new one, but {name!r} is fastnn's own {self.kind}")

    def load(self, package: str, path: Sequence[str]) -> None:
        """Import the modules of a package, each of which adds what it declares; these names then stay."""
        for module in pkgutil.iter_modules(path):
            importlib.import_module(f"{package}.{module.name}")
        self._own = frozenset((*self._known, *self._aliases))

    @property
    def loaded(self) -> bool:
        """Whether the package's own declarations are there, so that what is added now is a program's."""
        return bool(self._own)

    def canonical(self, name: Any) -> str:
        """The name without aliases. Raises ValueError for what is not known; the message begins with the kind."""
        if isinstance(name, str):
            name = self._aliases.get(name, name)
            if name in self._known:
                return str(name)
        known = ", ".join([*self._known, *self._aliases])
        raise ValueError(f"{self.kind} must be one of {known}, got {name!r}")

    def __getitem__(self, name: Any) -> T:
        """The declaration of this name or alias. Raises ValueError for what is not known."""
        try:
            return self._known[name]
        except (KeyError, TypeError):  # an alias, or no name
            return self._known[self.canonical(name)]

    def __contains__(self, name: Any) -> bool:
        return isinstance(name, str) and self._aliases.get(name, name) in self._known

    def __iter__(self) -> Iterator[str]:
        """The names, without aliases."""
        return iter(tuple(self._known))

    def values(self) -> Iterable[T]:
        """The declarations."""
        return self._known.values()

    @property
    def aliases(self) -> tuple[str, ...]:
        """The other names."""
        return tuple(self._aliases)
