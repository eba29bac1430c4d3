"""What is known by name: what the modules of a package declare, and what programs add."""

import importlib
import importlib.util
import keyword
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar

T = TypeVar("T")
PACKAGE = "kernels"
NOTHING: Mapping[str, str] = MappingProxyType({})


class Registry(Generic[T]):
    """The declarations of one kind, by name.

    kind: what messages call them, "activation" say. taken: names that mean something else where these are chosen from,
    and what. functions: whether each is a function of `kernels` by its name, which it must then be alone to have.
    made_by: how a program makes one, for messages about names that are not known, in a model that was pickled say.
    """

    _of_functions: ClassVar[list["Registry[Any]"]] = []

    def __init__(
        self, kind: str, taken: Mapping[str, str] = NOTHING, functions: bool = False, made_by: str = ""
    ) -> None:
        self.kind, self._taken, self._functions, self._made_by = kind, taken, functions, made_by
        if functions:
            self._of_functions.append(self)
        self._known: dict[str, T] = {}
        self._aliases: dict[str, str] = {}
        self._own: frozenset[str] = frozenset()
        self._followers: list[Callable[[str, T], None]] = []
        self.kept: set[str] = set()  # names whose declarations are in compiled code that is not made anew

    def add(self, name: str, declaration: T, aliases: Sequence[str] = ()) -> None:
        """Make a declaration known; one that a program added before under this name is replaced.

        Raises what check_new does.
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
        """Raise ValueError for a name that is no identifier, and for one that means something else already."""
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"name must be an identifier, got {name!r}")
        if self.loaded and (whose := self._whose(name)):
            raise ValueError(f"name must be a new one, but {name!r} is {whose}")

    def _whose(self, name: str) -> str:
        """What a program's name means already, in words; nothing where it is free."""
        if keyword.iskeyword(name):
            return "Python's own"
        if name in self._own:
            return f"fastnn's own {self.kind}"
        if name in self._taken:
            return self._taken[name]
        return self._whose_function(name) if self._functions else ""

    def _whose_function(self, name: str) -> str:
        """The same of what else is a function or a module of `kernels`."""
        for other in self._of_functions:
            if other is not self and name in other:
                return f"{'fastnn' if name in other._own else 'this program'}'s own {other.kind}"
        own = name in vars(sys.modules[PACKAGE]) or importlib.util.find_spec(f"{PACKAGE}.{name}")
        return f"{PACKAGE}' own" if own else ""

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
        own = self._made_by and isinstance(name, str) and name.isidentifier()
        hint = f"; {self.kind}s of one's own are known once {self._made_by} was made" if own else ""
        raise ValueError(f"{self.kind} must be one of {known}, got {name!r}{hint}")

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
