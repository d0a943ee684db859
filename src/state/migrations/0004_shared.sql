-- What a state needs that machines share. Homes that use it; and which process has the right to own a run until `run.lease_until`
-- (a state in the home has a lock file instead, and both columns stay empty).
CREATE TABLE home (id TEXT PRIMARY KEY, host TEXT NOT NULL, folder TEXT NOT NULL, seen_at BIGINT NOT NULL);

ALTER TABLE run ADD COLUMN lease_holder TEXT;
