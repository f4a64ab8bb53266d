-- All inline objects of an owner share one public manifest, and so one object id: tens of thousands of records, of which a look-up
-- by object wants one, and a walk over the objects with shards none.
DROP INDEX records_by_object;
CREATE INDEX records_alive ON records (object, lease_version DESC, locator) WHERE erased_at IS NULL;
CREATE INDEX records_with_shards ON records (object) WHERE erased_at IS NULL AND placement <> '[]';
CREATE INDEX records_erased ON records (object) WHERE erased_at IS NOT NULL;
