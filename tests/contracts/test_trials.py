"""The Trials contract: one of all who ask tries, and the others hear what is known."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from empath.aws.trials import DynamoTrials
from empath.domain.errors import ControlTrouble
from empath.domain.trial import QUICK, SLOW_FOR, WORKS_FOR, Trial, TrialPhase
from empath.ports.trials import Trials
from empath.testing.clock import START
from empath.testing.memory_trials import MemoryTrials

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient

pytestmark = pytest.mark.asyncio(loop_scope="session")

SITE = "mx1.b.test,mx2.b.test"


@pytest_asyncio.fixture(params=["memory", "aws"], loop_scope="session")
async def trials(request: pytest.FixtureRequest, dynamodb: DynamoDBClient, control_table: str) -> Trials:
    return MemoryTrials() if request.param == "memory" else DynamoTrials(dynamodb, control_table)


async def test_of_all_who_ask_at_once_one_tries_and_all_know_who(trials: Trials) -> None:
    answers = await asyncio.gather(
        *(trials.begin(SITE, owner=f"worker {number}", now=START) for number in range(20))
    )
    assert len({trial.owner for trial in answers}) == 1
    assert {trial.phase(START) for trial in answers} == {TrialPhase.TRYING}
    assert {trial.until for trial in answers} == {START + QUICK}


async def test_sites_are_tried_each_by_itself(trials: Trials) -> None:
    assert (await trials.begin("a.test", owner="a", now=START)).owner == "a"
    assert (await trials.begin("b.test", owner="b", now=START)).owner == "b"


async def test_who_asks_again_for_want_of_an_answer_still_has_it(trials: Trials) -> None:
    first = await trials.begin(SITE, owner="a", now=START)
    assert await trials.begin(SITE, owner="a", now=START) == first


async def test_a_trial_that_nobody_ended_counts_as_slow_until_another_may_begin(trials: Trials) -> None:
    await trials.begin(SITE, owner="a", now=START)
    later = START + QUICK + SLOW_FOR - timedelta(seconds=1)
    assert (await trials.begin(SITE, owner="b", now=later)).phase(later) is TrialPhase.SLOW
    later = START + QUICK + SLOW_FOR
    assert (await trials.begin(SITE, owner="b", now=later)).owner == "b"


@pytest.mark.parametrize("known", [Trial.worked(START), Trial.slow(START)])
async def test_what_was_told_is_what_others_hear_until_its_time_is_over(trials: Trials, known: Trial) -> None:
    await trials.begin(SITE, owner="a", now=START)
    await trials.end(SITE, known)
    heard = await trials.begin(SITE, owner="b", now=START)
    assert (heard.state, heard.until) == (known.state, known.until)
    assert heard.until in (START + WORKS_FOR, START + SLOW_FOR)
    assert (await trials.begin(SITE, owner="b", now=known.until)).owner == "b"


async def test_a_trial_that_ended_without_a_result_leaves_nothing(trials: Trials) -> None:
    await trials.begin(SITE, owner="a", now=START)
    await trials.end(SITE, None)
    await trials.end(SITE, None)
    assert (await trials.begin(SITE, owner="b", now=START)).owner == "b"


async def test_a_site_can_be_called_slow_that_nobody_tries(trials: Trials) -> None:
    await trials.end(SITE, Trial.slow(START))
    assert (await trials.begin(SITE, owner="a", now=START)).phase(START) is TrialPhase.SLOW


async def test_a_table_that_is_not_there_is_trouble(dynamodb: DynamoDBClient) -> None:
    trials = DynamoTrials(dynamodb, "no-such-table")
    with pytest.raises(ControlTrouble):
        await trials.begin(SITE, owner="a", now=START)
    with pytest.raises(ControlTrouble):
        await trials.end(SITE, None)


async def test_an_item_that_is_no_trial_is_trouble(dynamodb: DynamoDBClient, control_table: str) -> None:
    await dynamodb.put_item(
        TableName=control_table, Item={"pk": {"S": f"trial#{SITE}"}, "forgotten_at": {"S": "9"}}
    )
    with pytest.raises(ControlTrouble, match="holds no trial"):
        await DynamoTrials(dynamodb, control_table).begin(SITE, owner="a", now=START)
