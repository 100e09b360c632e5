"""Answers on their way from the engine's thread to the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from elastic_ir.serve.mailbox import Mailbox


def test_answers_errors_and_cancellations_arrive() -> None:
    async def run() -> None:
        mailbox = Mailbox()
        answers: list[Future[int]] = [Future() for _ in range(4)]
        waiting = [mailbox.wait_for(answer) for answer in answers]

        def work() -> None:
            answers[0].set_result(7)
            answers[1].set_exception(ValueError("no"))
            answers[2].cancel()

        await asyncio.to_thread(work)
        assert await waiting[0] == 7
        with pytest.raises(ValueError, match="no"):
            await waiting[1]
        with pytest.raises(asyncio.CancelledError):
            await waiting[2]
        waiting[3].cancel()
        await asyncio.sleep(0)
        assert answers[3].cancelled()

    asyncio.run(run())


def test_a_batch_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> int:
        loop, mailbox, woken = asyncio.get_running_loop(), Mailbox(), 0
        wake = loop.call_soon_threadsafe

        def counted(*arguments: object) -> asyncio.Handle:
            nonlocal woken
            woken += 1
            return wake(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        answers: list[Future[int]] = [Future() for _ in range(8)]
        waiting = [mailbox.wait_for(answer) for answer in answers]
        for number, answer in enumerate(answers):  # the loop has no turn in between
            answer.set_result(number)
        assert await asyncio.gather(*waiting) == list(range(8))
        return woken

    assert asyncio.run(run()) == 1
