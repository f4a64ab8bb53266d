-- A token may have so many parts of CARs, and what one that was ended has is looked for.
CREATE INDEX uploads_parts ON uploads (token) WHERE state = 2;
