"""What takes long is done in another thread, what does not is not."""

import threading

import pytest

from campaign_gateway.proxy.beside import LARGE_BYTES, beside


@pytest.mark.parametrize(("size", "is_here"), [(0, True), (LARGE_BYTES, True), (LARGE_BYTES + 1, False)])
async def test_large_work_leaves_the_loop_free(size: int, is_here: bool) -> None:
    thread = await beside(size, threading.get_ident)
    assert (thread == threading.get_ident()) is is_here


async def test_errors_come_back() -> None:
    for size in (0, LARGE_BYTES + 1):
        with pytest.raises(ValueError, match="invalid literal"):
            await beside(size, int, "x")
