-- Moves that make nodes equally full, and whose word a ticket is.

-- The column to move and to which node; NULL: the diagnosis says what is to be done.
ALTER TABLE repairs ADD COLUMN target_column INTEGER CHECK (target_column BETWEEN 0 AND 255);
ALTER TABLE repairs ADD COLUMN target_node TEXT;
-- The reader who reported first; empty: before this column.
ALTER TABLE tickets ADD COLUMN reader TEXT NOT NULL DEFAULT '';
