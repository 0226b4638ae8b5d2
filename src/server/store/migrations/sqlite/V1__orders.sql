-- Times are UnixMillis, money is fen. The unique keys, not locks, are the guarantee that money counts once.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE orders (
    id           INTEGER PRIMARY KEY,
    merchant_id  TEXT NOT NULL,
    order_type   TEXT NOT NULL,
    order_number TEXT NOT NULL,
    title        TEXT NOT NULL,
    total_fee    INTEGER NOT NULL CHECK (total_fee BETWEEN 1 AND 10000000000),
    expires_at   INTEGER,
    return_url   TEXT,
    buyer        TEXT,
    attach       TEXT,
    locale       TEXT,
    created_at   INTEGER NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('pending', 'closing', 'paid', 'closed')),
    close_cause  TEXT,
    closed_at    INTEGER,
    version      INTEGER NOT NULL CHECK (version >= 1),
    token_hash   BLOB NOT NULL UNIQUE,
    page_hash    BLOB NOT NULL UNIQUE,
    UNIQUE (merchant_id, order_type, order_number),
    CHECK ((state IN ('closing', 'closed')) = (close_cause IS NOT NULL)),
    CHECK ((state = 'closed') = (closed_at IS NOT NULL))
) STRICT;

CREATE INDEX orders_by_merchant ON orders (merchant_id, id);

CREATE TABLE attempts (
    id           INTEGER PRIMARY KEY,
    order_id     INTEGER NOT NULL REFERENCES orders (id),
    merchant_id  TEXT NOT NULL,
    channel      TEXT NOT NULL,
    scene        TEXT NOT NULL,
    account      TEXT NOT NULL,
    out_trade_no TEXT NOT NULL,
    request      TEXT NOT NULL,
    opened_at    INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('opening', 'ready', 'refused', 'closed', 'paid')),
    code         TEXT,
    refused_code TEXT,
    UNIQUE (channel, account, out_trade_no),
    CHECK (state <> 'ready' OR code IS NOT NULL)
) STRICT;

CREATE INDEX attempts_by_order ON attempts (order_id);

-- Money, once per (channel, account, transaction_id, kind): notices and queries meet in that key.
CREATE TABLE payments (
    id             INTEGER PRIMARY KEY,
    order_id       INTEGER NOT NULL REFERENCES orders (id),
    merchant_id    TEXT NOT NULL,
    channel        TEXT NOT NULL,
    account        TEXT NOT NULL,
    out_trade_no   TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    kind           TEXT NOT NULL CHECK (kind IN ('paid', 'duplicate', 'late', 'mismatch')),
    fee            INTEGER NOT NULL CHECK (fee >= 0),
    paid_at        INTEGER NOT NULL,
    recorded_at    INTEGER NOT NULL,
    UNIQUE (channel, account, transaction_id, kind)
) STRICT;

CREATE INDEX payments_by_order ON payments (order_id);
CREATE UNIQUE INDEX one_payment_pays_an_order ON payments (order_id) WHERE kind = 'paid';

-- Every notice with its verdict; untrusted ones change nothing else.
CREATE TABLE inbox (
    id           INTEGER PRIMARY KEY,
    at           INTEGER NOT NULL,
    channel      TEXT NOT NULL,
    merchant_id  TEXT,
    verdict      TEXT NOT NULL CHECK (verdict IN ('applied', 'refused', 'untrusted', 'foreign', 'unmatched')),
    out_trade_no TEXT,
    delivery_id  TEXT,
    note         TEXT,
    raw          BLOB NOT NULL
) STRICT;

-- What the mall is told: id and bytes stay the same over all tries.
CREATE TABLE events (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id    TEXT NOT NULL UNIQUE,
    merchant_id TEXT NOT NULL,
    order_id    INTEGER NOT NULL REFERENCES orders (id),
    kind        TEXT NOT NULL,
    version     INTEGER NOT NULL,
    body        BLOB NOT NULL,
    created_at  INTEGER NOT NULL,
    UNIQUE (order_id, kind, version)
) STRICT;

CREATE INDEX events_by_merchant ON events (merchant_id, id);

-- Effects until they are done. A lease outlives its worker's longest call twice; the lease id fences late results.
CREATE TABLE tasks (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT NOT NULL CHECK (kind IN ('webhook', 'query', 'close', 'expire')),
    merchant_id TEXT NOT NULL,
    order_id    INTEGER NOT NULL REFERENCES orders (id),
    subject     TEXT NOT NULL,
    due_at      INTEGER NOT NULL,
    tries       INTEGER NOT NULL DEFAULT 0,
    lease       INTEGER,
    lease_until INTEGER,
    done_at     INTEGER,
    note        TEXT
) STRICT;

CREATE UNIQUE INDEX one_open_task_each ON tasks (kind, order_id, subject) WHERE done_at IS NULL;
CREATE INDEX due_tasks ON tasks (due_at) WHERE done_at IS NULL;
