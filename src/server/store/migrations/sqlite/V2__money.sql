-- Money given back, the headers of notices, and the task that makes refunds.

-- What of a payment is back with the shopper or on its way: failed refunds do not count.
ALTER TABLE payments ADD COLUMN refunded_fee INTEGER NOT NULL DEFAULT 0
    CHECK (refunded_fee BETWEEN 0 AND fee);

CREATE TABLE refunds (
    id             INTEGER PRIMARY KEY,
    order_id       INTEGER NOT NULL REFERENCES orders (id),
    merchant_id    TEXT NOT NULL,
    channel        TEXT NOT NULL,
    account        TEXT NOT NULL,
    out_trade_no   TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    refund_number  TEXT NOT NULL,
    out_refund_no  TEXT NOT NULL,
    amount         INTEGER NOT NULL CHECK (amount >= 1),
    reason         TEXT,
    asked_at       INTEGER NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('asked', 'processing', 'failed', 'succeeded')),
    failed_code    TEXT,
    succeeded_at   INTEGER,
    UNIQUE (order_id, refund_number),
    UNIQUE (channel, account, out_refund_no),
    CHECK ((state = 'failed') = (failed_code IS NOT NULL)),
    CHECK ((state = 'succeeded') = (succeeded_at IS NOT NULL))
) STRICT;

-- The headers that a signature may stand in.
ALTER TABLE inbox ADD COLUMN headers TEXT NOT NULL DEFAULT '';

-- A check cannot be changed in place.
CREATE TABLE tasks_2 (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    kind        TEXT NOT NULL CHECK (kind IN ('webhook', 'query', 'close', 'expire', 'refund')),
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
INSERT INTO tasks_2 SELECT id, kind, merchant_id, order_id, subject, due_at, tries, lease, lease_until, done_at, note
    FROM tasks;
DROP TABLE tasks;
ALTER TABLE tasks_2 RENAME TO tasks;
CREATE UNIQUE INDEX one_open_task_each ON tasks (kind, order_id, subject) WHERE done_at IS NULL;
CREATE INDEX due_tasks ON tasks (due_at) WHERE done_at IS NULL;
