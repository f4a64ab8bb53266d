-- The orders of owners to the edges' caches, which are looked up before they are told: each is told once.
CREATE INDEX changes_of_owners ON changes (kind) WHERE substr(kind, 1, 15) = '{"kind":"purge"';
