-- What services need. `body` is a Release, `fate` a Fate, both as JSON; `pruned`: out of the history, what it pinned is still to be let go.
CREATE TABLE release (
  id TEXT PRIMARY KEY, pipeline TEXT NOT NULL, target TEXT NOT NULL DEFAULT '', stage TEXT NOT NULL, number BIGINT NOT NULL,
  digest TEXT NOT NULL, run TEXT NOT NULL, body TEXT NOT NULL, fate TEXT NOT NULL, fate_at BIGINT NOT NULL, made_at BIGINT NOT NULL,
  pruned BIGINT NOT NULL DEFAULT 0,
  UNIQUE (pipeline, target, stage, number));

-- What shall be. `home` is the installation that keeps it up.
CREATE TABLE service (
  pipeline TEXT NOT NULL, target TEXT NOT NULL DEFAULT '', stage TEXT NOT NULL, home TEXT NOT NULL,
  live TEXT REFERENCES release(id), candidate TEXT REFERENCES release(id), candidate_run TEXT,
  wanted BIGINT NOT NULL, port BIGINT NOT NULL, route TEXT, generation BIGINT NOT NULL, changed_at BIGINT NOT NULL,
  PRIMARY KEY (pipeline, target, stage));
