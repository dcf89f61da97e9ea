"""The executor: it has assessments carried out by compliance servers (docs/executor.md, docs/adr/0015)."""
