"""The API on asyncio: every call runs in a thread and is cancelled with its task."""

import asyncio

import pytest

from interlock import CancelledError, Interlock, NotFoundError, SimulatedDriver, State, aio


@pytest.fixture
def driver():
    """Return a simulated driver whose behaviour the test sets through `orders`."""
    return SimulatedDriver(orders={})


@pytest.fixture
def vms(driver):
    """Return the API with that driver."""
    return Interlock(driver=driver)


def test_call_returns_what_the_method_does(vms):
    """Arguments, results and errors are those of the method."""

    async def program():
        await aio.call(vms.create, "web", "tiny")
        assert (await aio.call(vms.start, "web", timeout_s=60)).state is State.running
        with pytest.raises(NotFoundError):
            await aio.call(vms.start, "db")
        return await aio.call(lambda: [status.name for status in vms.instances()])

    assert asyncio.run(program()) == ["web"]


def test_many_calls_are_made_at_once(vms):
    """Calls share no limited pool of threads: 40 waits last until 40 later calls have started the instances."""
    names = [f"w{number}" for number in range(40)]

    async def program():
        await asyncio.gather(*(aio.call(vms.create, name, "tiny") for name in names))
        waiting = [asyncio.create_task(aio.call(vms.wait_for, name, "running")) for name in names]
        await asyncio.sleep(0)
        await asyncio.gather(*(aio.call(vms.start, name) for name in names))
        return [status.state for status in await asyncio.gather(*waiting)]

    assert asyncio.run(program()) == [State.running] * 40


@pytest.mark.parametrize("times", [1, 3])
def test_cancelled_task_calls_the_work_off(vms, driver, times):
    """The start is undone before the task ends, however often it is cancelled; the next start works."""
    vms.create("web", "tiny")
    driver.orders["start"] = {"hang": True}
    began = asyncio.Event()

    async def program():
        loop = asyncio.get_running_loop()

        def heard(event):
            if event.step:
                loop.call_soon_threadsafe(began.set)

        task = asyncio.create_task(aio.call(vms.start, "web", on_event=heard))
        await began.wait()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        return vms.status("web")

    status = asyncio.run(program())
    assert (status.state, status.operation) == (State.created, None)
    assert [line.error["reference"] for line in vms.history("web") if line.error] == [CancelledError.reference]
    driver.orders.clear()
    assert vms.start("web").state is State.running


def test_work_that_is_called_off_calls_off_no_other(vms, driver, tmp_path, until):
    """Each call has its own cancellation flag."""
    driver.orders["start"] = {"until": str(tmp_path / "go")}
    for name in ("web", "db"):
        vms.create(name, "tiny")

    async def program():
        web, db = (asyncio.create_task(aio.call(vms.start, name)) for name in ("web", "db"))
        await aio.call(until, lambda: all(vms.status(name).operation for name in ("web", "db")))
        web.cancel()
        with pytest.raises(asyncio.CancelledError):
            await web
        (tmp_path / "go").touch()
        return (await db).state

    assert asyncio.run(program()) is State.running
    assert vms.status("web").state is State.created


def test_timeout_of_asyncio_is_a_timeout(vms, driver):
    """`asyncio.timeout` bounds a call like any other awaitable."""
    vms.create("web", "tiny")
    driver.orders["start"] = {"hang": True}

    async def program():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await aio.call(vms.start, "web")

    asyncio.run(program())
    assert vms.status("web").state is State.created


def test_iterate_yields_what_the_iterator_does(vms):
    """A watch is followed without blocking the loop; cancelling its task ends it."""
    vms.create("web", "tiny")

    async def program():
        seen = []
        changes = aio.iterate(vms.watch(["web"], since=0))
        start = asyncio.create_task(aio.call(vms.start, "web"))
        async for change in changes:
            seen.append((change.line.trigger, change.line.phase))
            if seen[-1] == ("start", "done"):
                break
        await start
        waiting = asyncio.create_task(aio.call(next, vms.watch(["web"])))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return seen[-1], [change async for change in aio.iterate(iter([1, None, 2]))]

    assert asyncio.run(program()) == (("start", "done"), [1, None, 2])
