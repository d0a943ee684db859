-- What batch runs need (docs/architecture.md, State). Only TEXT, BIGINT and DOUBLE PRECISION; times are Unix milliseconds.

CREATE TABLE installation (one BIGINT PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, made_at BIGINT NOT NULL);

CREATE TABLE pipeline (name TEXT PRIMARY KEY, origin TEXT NOT NULL, made_at BIGINT NOT NULL);

CREATE TABLE run (
  id TEXT PRIMARY KEY, pipeline TEXT NOT NULL REFERENCES pipeline(name), commit_id TEXT, tree TEXT NOT NULL, dirty BIGINT NOT NULL,
  file TEXT NOT NULL, target TEXT NOT NULL DEFAULT '', params TEXT NOT NULL, selection TEXT NOT NULL, cause TEXT NOT NULL, schedule TEXT, tick BIGINT,
  state TEXT NOT NULL CHECK (state IN ('waiting','active','ended')), outcome TEXT CHECK (outcome IN ('done','failed','kept','cancelled')),
  wish TEXT CHECK (wish IN ('stop','kill')), owner TEXT, epoch BIGINT NOT NULL DEFAULT 0, lease_until BIGINT,
  made_at BIGINT NOT NULL, ended_at BIGINT, CHECK ((state = 'ended') = (outcome IS NOT NULL)));

-- Never a mix of two runs of one pipeline.
CREATE UNIQUE INDEX run_active ON run(pipeline, target) WHERE state = 'active';

-- A tick makes at most one run.
CREATE UNIQUE INDEX run_tick ON run(schedule, tick) WHERE schedule IS NOT NULL;

-- The newest runs of a pipeline: reasons, durations, gc.
CREATE INDEX run_pipeline ON run(pipeline, id);

CREATE TABLE event (stream TEXT NOT NULL, seq BIGINT NOT NULL, at BIGINT NOT NULL, epoch BIGINT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (stream, seq));

-- `matrix` is JSON: {"number", "label", "values"}; `reason` is a TaskReason as JSON; `outputs` and `values` are JSON objects.
CREATE TABLE task (run TEXT NOT NULL REFERENCES run(id), stage TEXT NOT NULL, copy BIGINT NOT NULL, matrix TEXT NOT NULL, state TEXT NOT NULL, reason TEXT,
  stage_key TEXT, reused_from TEXT, outputs TEXT, "values" TEXT, attempts BIGINT NOT NULL DEFAULT 0, started_at BIGINT, ended_at BIGINT, PRIMARY KEY (run, stage, copy));

CREATE TABLE attempt (run TEXT NOT NULL, stage TEXT NOT NULL, copy BIGINT NOT NULL, number BIGINT NOT NULL, job TEXT NOT NULL UNIQUE, host TEXT NOT NULL,
  job_end TEXT, peak_memory BIGINT, cpu_ms BIGINT, started_at BIGINT NOT NULL, ended_at BIGINT, PRIMARY KEY (run, stage, copy, number));

CREATE TABLE metric (run TEXT NOT NULL, stage TEXT NOT NULL, copy BIGINT NOT NULL, name TEXT NOT NULL, value DOUBLE PRECISION NOT NULL, PRIMARY KEY (run, stage, copy, name));

CREATE TABLE stage_key (digest TEXT PRIMARY KEY, parts TEXT NOT NULL);

CREATE TABLE environment (digest TEXT PRIMARY KEY, parts TEXT NOT NULL, lock TEXT, built_at BIGINT);
