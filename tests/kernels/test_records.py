"""Records: Python, NumPy and compiled code read and write the same fields by the same names."""

import ctypes

import numpy as np

from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, Size
from kernels.cpu.compiler.records import (
    CACHE_LINE,
    Record,
    Shared,
    dtype_of,
    offset,
    record_address,
    record_at,
    record_class,
)
from kernels.layout import aligned_zeros


@record_class
class Account(Record):
    """One of each kind of field."""

    owner: Address
    visits: Shared
    visitors: Shared
    rows: Size
    balance: float


account_at = record_at(Account)


@jit.kernel
def visit(real):
    """Doubles the balance, counts the visit, and notes where the record is."""

    def function(address: Address) -> None:
        account = account_at(address)
        account.balance = account.balance * 2.0
        account.visits += 1
        account.owner = record_address(account)

    return function


def test_compiled_code_reads_and_writes_what_python_does():
    account = Account(visits=2, rows=7, balance=0.75)
    visit["float32"](ctypes.addressof(account))
    assert account.owner == ctypes.addressof(account)
    assert (account.visits, account.visitors, account.rows, account.balance) == (3, 0, 7, 1.5)


def test_a_word_that_all_threads_write_has_a_cache_line_to_itself():
    lines = {name: offset(Account, name) // CACHE_LINE for name in dtype_of(Account).names}
    assert lines == {"owner": 0, "visits": 1, "visitors": 2, "rows": 3, "balance": 3}
    assert ctypes.sizeof(Account) % CACHE_LINE == 0


def test_numpy_has_the_same_fields():
    memory = aligned_zeros(2 * ctypes.sizeof(Account) // 8, np.int64)
    accounts = memory.view(dtype_of(Account))
    accounts["balance"], accounts["rows"] = [0.5, 1.5], [3, 4]
    second = Account.from_buffer(memory.data, ctypes.sizeof(Account))
    assert (second.rows, second.balance) == (4, 1.5)
