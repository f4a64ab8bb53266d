-- A whole upload that cannot be stored is tried again, after pauses that grow.
ALTER TABLE resumables ADD COLUMN tries INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0);
-- When it is to be tried next, seconds since 1970.
ALTER TABLE resumables ADD COLUMN due INTEGER NOT NULL DEFAULT 0;
-- Why it is not stored, and whether that is its owner's fault: then it expires as one that is not whole.
ALTER TABLE resumables ADD COLUMN fault TEXT CHECK (length(fault) <= 1024);
ALTER TABLE resumables ADD COLUMN refused INTEGER NOT NULL DEFAULT 0 CHECK (refused IN (0, 1));
-- The upload that this one is a part of. It goes when that one goes.
ALTER TABLE resumables ADD COLUMN final BLOB CHECK (length(final) = 16);

CREATE INDEX resumables_by_expiry ON resumables (expires);
CREATE INDEX resumables_by_final ON resumables (final) WHERE final IS NOT NULL;
CREATE INDEX resumables_open ON resumables (token) WHERE locator IS NULL;
CREATE INDEX resumables_stored ON resumables (token, created) WHERE locator IS NOT NULL;
CREATE INDEX resumables_due ON resumables (due)
    WHERE locator IS NULL AND offset = length AND (concat IS NULL OR concat <> 'partial');

-- Uploads under way, and parts of CARs: few beside those that are stored. Each part has a row of its own.
CREATE INDEX uploads_not_whole ON uploads (state, created) WHERE state <> 1;

CREATE INDEX pins_by_token ON pins (token);
