"""The examples in the contract documents: one assessment in the middle of its work, and what is said of it."""

from __future__ import annotations

from typing import Any

Example = dict[str, Any]

_ID = "3f0c2a9e-6a35-4d0c-8f2f-0d1f4c1b7e55"

REQUEST: Example = {
    "assessmentType": "compliance",
    "serverName": "web-1",
    "options": {"deepScan": True, "timeout": 60000},
    "priority": 7,
}

RESULT: Example = {
    "totalServers": 5,
    "compliantServers": 4,
    "nonCompliantServers": 1,
    "overallScore": 92.5,
    "summary": {"criticalIssues": 0, "highIssues": 1, "mediumIssues": 3, "lowIssues": 4},
}

STATE: Example = {
    "assessmentId": _ID,
    "state": "processing",
    "version": 3,
    "progress": 40,
    "message": "two of five servers",
    "createdAt": "2026-01-31T12:00:00.000000Z",
    "updatedAt": "2026-01-31T12:00:07.250000Z",
    "startedAt": "2026-01-31T12:00:01.500000Z",
    "completedAt": None,
    "requestData": {
        **REQUEST,
        "timeout": 300,
        "assessmentId": _ID,
        "timestamp": "2026-01-31T12:00:00+00:00",
        "userId": "ann",
    },
    "resultData": None,
    "errorMessage": None,
    "retryCount": 0,
    "nextRetryAt": None,
    "metadata": None,
    "duration": None,
}

WEBHOOK_REQUEST: Example = {
    "url": "https://example.com/hook",
    "eventTypes": ["assessment.completed", "assessment.failed", "assessment.cancelled"],
    "description": "tells the ticket system",
}

DIFF: Example = {
    "assessmentId": _ID,
    "from": 2,
    "to": 3,
    "changes": [
        {"field": "/version", "from": 2, "to": 3},
        {"field": "/progress", "from": 0, "to": 40},
        {"field": "/message", "from": None, "to": "two of five servers"},
        {"field": "/updatedAt", "from": "2026-01-31T12:00:01.500000Z", "to": "2026-01-31T12:00:07.250000Z"},
    ],
}

PROGRESS_ITEM: Example = {"assessmentId": _ID, "progress": 40, "message": "two of five servers"}

CREATED: Example = {
    "assessmentId": _ID,
    "status": "created",
    "message": "Assessment created successfully",
    "estimatedTime": 60000,
    "version": 1,
}

ACCEPTED: Example = {"assessmentId": _ID, "status": "accepted", "commandId": "6c9d7b52-8f5d-4a4e-9a54-1f6f0a3f1c11"}

STATUS: Example = {
    "assessmentId": _ID,
    "status": "processing",
    "progress": 40,
    "message": "two of five servers",
    "createdAt": "2026-01-31T12:00:00Z",
    "updatedAt": "2026-01-31T12:00:07.250000Z",
    "completedAt": None,
}

ENDED: Example = {"assessmentId": _ID, "status": "completed", "result": RESULT, "error": None, "duration": 48250}

LIST: Example = {"assessments": [STATE], "total": 1, "nextCursor": None}

FOUND: Example = {
    "assessments": [STATE | {"highlights": {"serverName": "<mark>web</mark>-1"}}],
    "total": 1,
    "nextCursor": None,
}

STREAM = f"""retry: 2417

id: 3
event: assessment.progress
data: {{"assessmentId":"{_ID}","version":3,"state":"processing","previousState":"processing","progress":40,\
"message":"two of five servers","commandId":"c-3","userId":"ann","occurredAt":"2026-01-31T12:00:07.250000Z",\
"type":"assessment.progress"}}

"""
