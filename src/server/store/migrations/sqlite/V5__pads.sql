-- Tablets in the shop. What one shows is a row, so that it survives a restart. Of the code that pairs it and of
-- the cookie that it then has, only hashes are kept; a pad has one of them at a time.
CREATE TABLE pads (
    id          INTEGER PRIMARY KEY,
    pad         TEXT NOT NULL UNIQUE,
    merchant_id TEXT NOT NULL,
    code_hash   BLOB UNIQUE,
    code_until  INTEGER,
    cookie_hash BLOB UNIQUE,
    paired_at   INTEGER,
    order_id    INTEGER REFERENCES orders (id),
    channel     TEXT,
    result_at   INTEGER,
    seen_at     INTEGER,
    version     INTEGER NOT NULL,
    CHECK ((code_hash IS NULL) = (code_until IS NULL)),
    CHECK ((cookie_hash IS NULL) = (paired_at IS NULL)),
    CHECK ((code_hash IS NULL) <> (cookie_hash IS NULL))
) STRICT;

CREATE INDEX pads_by_merchant ON pads (merchant_id, id);

-- The last orders that were on a pad, for who looks after it.
CREATE TABLE pad_orders (
    id          INTEGER PRIMARY KEY,
    pad_id      INTEGER NOT NULL REFERENCES pads (id) ON DELETE CASCADE,
    merchant_id TEXT NOT NULL,
    order_id    INTEGER NOT NULL REFERENCES orders (id),
    UNIQUE (pad_id, order_id)
) STRICT;
