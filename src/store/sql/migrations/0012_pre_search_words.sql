-- What words begin with is looked up in the vocabulary: an index finds whole words many times faster than beginnings.
CREATE INDEX idx_search_vocabulary_beginning ON search_vocabulary (word text_pattern_ops);

-- The words of servers belong to it too, those with digits included: there are few servers, and they are asked for often.
INSERT INTO search_vocabulary (word)
SELECT DISTINCT word
FROM server_totals CROSS JOIN LATERAL regexp_split_to_table(lower(server_name), '[^[:alnum:]]+') AS parts (word)
WHERE scope = '' AND length(word) BETWEEN 1 AND 40
ON CONFLICT (word) DO NOTHING;
