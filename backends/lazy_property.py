"""Attributes that are computed when they are first asked for."""

from __future__ import annotations

from functools import cached_property  # noqa: TID251
from typing import Any, TypeVar, cast, overload

_T = TypeVar("_T")


class lazy_property(cached_property[_T]):  # noqa: N801 - it is written as a decorator
    """`functools.cached_property` without the lock that it has before Python 3.12.

    That lock is one for all objects of a class. A process that was forked while another thread held it, to decode some
    leaf ahead of its reader, waited for ever when it decoded a leaf of its own.

    Threads that ask at the same time may each compute the value; all of them get that of whoever was done first.
    """

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> lazy_property[_T]: ...

    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> _T: ...

    def __get__(self, instance: object | None, owner: type[Any] | None = None) -> lazy_property[_T] | _T:
        if instance is None:
            return self
        assert self.attrname is not None
        return cast(_T, instance.__dict__.setdefault(self.attrname, self.func(instance)))
