-- What timers look for: processing assessments by the end of their lease. A batch need not write it, nor know of it.

-- Seconds without progress that an assessment may process. Requests are checked; what is out of all bounds is none of
-- ours, and no reason to refuse a row.
CREATE FUNCTION lease_seconds(request_data JSONB) RETURNS DOUBLE PRECISION
LANGUAGE SQL IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN jsonb_typeof(request_data -> 'timeout') = 'number'
        THEN GREATEST(LEAST((request_data -> 'timeout')::numeric, 9007199254740992), 0.001)::double precision
    ELSE 300
END;

-- Seconds since 1970, and no time: some leases end in millions of years.
CREATE FUNCTION lease_end(updated_at TIMESTAMP WITH TIME ZONE, request_data JSONB) RETURNS DOUBLE PRECISION
LANGUAGE SQL IMMUTABLE PARALLEL SAFE
RETURN date_part('epoch', updated_at - '1970-01-01 00:00:00+00'::timestamp with time zone)
    + lease_seconds(request_data);

CREATE INDEX idx_assessment_states_lease ON assessment_states(lease_end(updated_at, request_data), assessment_id)
    WHERE state = 'processing' AND version > 1;
