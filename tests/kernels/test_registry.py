"""Names of declarations, and hashes of the rules that they hold."""

import pytest

from kernels.declarations.registry import Registry
from kernels.declarations.sources import rule_hash
from kernels.maths import erf, exp, tanh
from tests.programs import run


def made():
    registry = Registry("activation")
    registry.add("first", 1, ("one",))
    registry._own = frozenset(("first", "one"))
    return registry


def test_names_and_aliases():
    registry = made()
    assert registry["first"] == registry["one"] == 1
    assert registry.canonical("one") == "first"
    assert list(registry) == ["first"]
    assert "one" in registry
    assert "two" not in registry
    assert 1 not in registry


@pytest.mark.parametrize("name", ["two", 2, None, ["first"]])
def test_what_is_not_known(name):
    with pytest.raises(ValueError, match="activation must be one of first, one, got"):
        made()[name]


def test_names_of_the_package_stay_and_others_may_be_replaced():
    registry = made()
    for taken in ("first", "one"):
        with pytest.raises(ValueError, match=f"'{taken}' is fastnn's own activation"):
            registry.add(taken, 2)
    registry.add("mine", 2)
    registry.add("mine", 3)
    assert registry["mine"] == 3
    with pytest.raises(ValueError, match="identifier"):
        registry.add("no name", 2)


def rules(scale, function, inner):
    def helper(z):
        return function(z) if inner else z

    def rule(z):
        return scale * helper(z)

    return rule


def test_hashes_of_rules():
    same = rule_hash(rules(2.0, exp, True))
    assert rule_hash(rules(2.0, exp, True)) == same
    others = [rule_hash(rules(2.5, exp, True)), rule_hash(rules(2.0, tanh, True)), rule_hash(rules(2.0, exp, False))]
    assert len({same, *others}) == 4


def test_whoever_follows_is_told_of_all():
    registry, told = Registry("colour"), []
    registry.add("red", 1)
    registry.follow(lambda name, declaration: told.append((name, declaration)))
    assert told == [("red", 1)]
    registry.add("blue", 2)
    registry.add("red", 3)
    assert told == [("red", 1), ("blue", 2), ("red", 3)]


def test_a_hash_is_the_same_in_every_process():
    program = "from tests.kernels.test_registry import erf, rule_hash, rules; print(rule_hash(rules(2.0, erf, True)))"
    assert run(program).stdout.split() == [rule_hash(rules(2.0, erf, True))]
