-- Sealed values (never plain ones). A removed entry stays with an empty `sealed`, so that its version is never used again.
CREATE TABLE secret (
  grp TEXT NOT NULL, name TEXT NOT NULL, entry TEXT NOT NULL, version BIGINT NOT NULL, sealed TEXT NOT NULL, changed_at BIGINT NOT NULL,
  PRIMARY KEY (grp, name, entry));
