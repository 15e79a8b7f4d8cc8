"""Work that would hold up the event loop, done beside it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

LARGE_BYTES = 32 * 2**10
"""What is made of so many bytes takes milliseconds: longer than it takes to hand it to a thread and back."""

_threads = ThreadPoolExecutor(2, "beside")
"""Few: all of them wait for one interpreter, and so does the loop."""
_P = ParamSpec("_P")
_T = TypeVar("_T")


async def beside(size: int, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What the function returns, computed in a thread if it is about so many bytes.

    Only for functions without side effects: if the caller is cancelled, the function goes on to its end.
    """
    if size <= LARGE_BYTES:
        return function(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_threads, partial(function, *args, **kwargs))
