-- Malls are told one by one, every try is written down, and nothing that waits is dropped.

-- Given up, or without an address at that time: these wait again.
UPDATE tasks SET done_at = NULL
WHERE kind = 'webhook' AND done_at IS NOT NULL AND (note LIKE 'given up:%' OR note = 'no webhook_url');

-- What is due of one mall is found without passing what waits for another.
DROP INDEX due_tasks;
CREATE INDEX due_webhooks ON tasks (merchant_id, due_at) WHERE kind = 'webhook' AND done_at IS NULL;
CREATE INDEX due_others ON tasks (due_at) WHERE kind <> 'webhook' AND done_at IS NULL;
-- An event has one task for good: a resend opens it again.
CREATE UNIQUE INDEX one_webhook_each ON tasks (subject) WHERE kind = 'webhook';

-- What became of each try to tell an event. The lease of a try names it; the last ones are kept.
CREATE TABLE deliveries (
    event_id   TEXT NOT NULL,
    lease      INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    status     INTEGER,
    error      TEXT,
    answer     TEXT NOT NULL,
    latency_ms INTEGER NOT NULL,
    PRIMARY KEY (event_id, lease),
    CHECK ((status IS NULL) = (error IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- Malls that take nothing now; a mall that takes what it is told has no row.
CREATE TABLE endpoints (
    merchant_id   TEXT PRIMARY KEY,
    url           TEXT NOT NULL,
    failing_since INTEGER NOT NULL,
    disabled_at   INTEGER
) STRICT, WITHOUT ROWID;
