-- The newest list of refused node certificates that an origin filed, signed by the authority of the cluster. Each origin
-- has its own copy, and believes this one only as far as it verifies.
CREATE TABLE refused (
    one  INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    list BLOB    NOT NULL CHECK (length(list) <= 262144)
) STRICT;
