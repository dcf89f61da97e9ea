-- Requests that were refused at the door: who asked for what, and why he did not get it.
CREATE TABLE access_refusals (
    id UUID PRIMARY KEY,
    refused_at TIMESTAMP WITH TIME ZONE NOT NULL,
    user_id TEXT,
    roles TEXT[] NOT NULL,
    method TEXT NOT NULL,
    route TEXT NOT NULL,
    assessment_id TEXT,
    status SMALLINT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    remote_address TEXT NOT NULL,
    user_agent TEXT,
    trace_id TEXT NOT NULL
);

CREATE INDEX idx_access_refusals_at ON access_refusals(refused_at);
CREATE INDEX idx_access_refusals_user ON access_refusals(user_id, refused_at);
