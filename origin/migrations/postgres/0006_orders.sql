-- See the same step of SQLite.
CREATE INDEX changes_of_owners ON changes (kind) WHERE substr(kind, 1, 15) = '{"kind":"purge"';
