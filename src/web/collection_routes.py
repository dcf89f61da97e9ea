"""The routes of many assessments, a part of the table of routes."""

from __future__ import annotations

from http import HTTPStatus

from ..models.assessment import AssessmentRequest
from ..models.errors import ErrorCode
from ..models.filters import ListQuery, SearchQuery, StatsQuery
from . import answers, examples
from .auth import Permission
from .batches import create_batch, progress_batch, retry_batch
from .bodies import MAX_ITEMS
from .lists import get_list, get_search, get_stats
from .requests import ProgressItem, RetrySelection
from .route import FRESH, KEYED, Body, Reply, Route, done

_GROUP = "Many assessments"

LIST_ROUTES = (
    Route(
        method="GET",
        path="/assessments",
        name="listAssessments",
        handler=get_list,
        group=_GROUP,
        summary="List assessments",
        description="Users see their own, ADMIN and HUMAN_OVERSIGHT everybody's; so it is in search and statistics.",
        permission=Permission.VIEW,
        query=ListQuery,
        headers=FRESH,
        replies={HTTPStatus.OK: Reply(description="One page.", of=answers.AssessmentList, example=examples.LIST)},
    ),
    Route(
        method="GET",
        path="/assessments/search",
        name="searchAssessments",
        handler=get_search,
        group=_GROUP,
        summary="Search ids, server names, messages, errors and requests",
        permission=Permission.VIEW,
        query=SearchQuery,
        headers=FRESH,
        replies={
            HTTPStatus.OK: Reply(description="One page, best first.", of=answers.FoundList, example=examples.FOUND)
        },
    ),
    Route(
        method="GET",
        path="/assessments/stats",
        name="getStatistics",
        handler=get_stats,
        group=_GROUP,
        summary="Counts, rates and averages of assessments",
        permission=Permission.VIEW,
        query=StatsQuery,
        headers=FRESH,
        replies={HTTPStatus.OK: Reply(description="The statistics.", of=answers.Statistics)},
    ),
)

BATCH_ROUTES = (
    Route(
        method="POST",
        path="/assessments/batch",
        name="createAssessments",
        handler=create_batch,
        group=_GROUP,
        summary="Create many assessments",
        description="Each item is judged by itself: what is wrong with one is told in `errors`.",
        permission=Permission.CREATE,
        headers=KEYED,
        body=Body(of=AssessmentRequest, is_list=True, most_items=MAX_ITEMS, example=[examples.REQUEST]),
        replies={HTTPStatus.OK: done("All are applied or refused.", answers.CreatedBatch)},
        errors=(ErrorCode.IDEMPOTENCY_MISMATCH,),
    ),
    Route(
        method="POST",
        path="/assessments/batch/progress",
        name="progressAssessments",
        handler=progress_batch,
        group=_GROUP,
        summary="Say how far many assessments are",
        description="Each item is judged by itself.",
        permission=Permission.UPDATE,
        headers=KEYED,
        body=Body(of=ProgressItem, is_list=True, most_items=MAX_ITEMS, example=[examples.PROGRESS_ITEM]),
        replies={HTTPStatus.OK: done("All are applied or refused.", answers.ProgressedBatch)},
        errors=(ErrorCode.IDEMPOTENCY_MISMATCH,),
    ),
    Route(
        method="POST",
        path="/assessments/batch/retry",
        name="retryAssessments",
        handler=retry_batch,
        group=_GROUP,
        summary="Put failed assessments back to pending",
        permission=Permission.RETRY,
        headers=KEYED,
        body=Body(of=RetrySelection, example={"maxRetries": 3}),
        replies={HTTPStatus.OK: done("These are pending again.", answers.RetriedBatch)},
        errors=(ErrorCode.IDEMPOTENCY_MISMATCH,),
    ),
)
