PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'speclab','tables','2026-11-24 21:58:50.927998+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'speclab','pauses','2026-11-24 21:58:50.952145+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'speclab','usual','2026-11-24 21:58:50.954286+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'speclab','presence','2026-11-24 21:58:50.966996+00:00');
INSERT INTO "_sqlite_migrations" VALUES(5,'speclab','way','2026-11-24 21:58:50.980898+00:00');
INSERT INTO "_sqlite_migrations" VALUES(6,'speclab','control','2026-11-24 21:58:50.981757+00:00');
INSERT INTO "_sqlite_migrations" VALUES(7,'speclab','flows','2026-11-25 00:57:45.674398+00:00');
CREATE TABLE alert (                    -- the alerts of a spec, as last evaluated
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    name TEXT NOT NULL,
    state TEXT NOT NULL,                -- ok | pending (true, but not for long enough yet) | firing
    since TEXT NOT NULL,                -- when it came to that state
    detail TEXT NOT NULL,               -- what was found, in words
    PRIMARY KEY (spec_id, name)
);
INSERT INTO "alert" VALUES('crm','slow','firing','2026-11-24T10:42:07.123Z','slow');
CREATE TABLE checkpoint (
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    flow TEXT NOT NULL DEFAULT 'source -> target',
    cursor TEXT NOT NULL,
    run TEXT NOT NULL,
    at TEXT NOT NULL,
    route TEXT,
    PRIMARY KEY (spec_id, flow)
);
INSERT INTO "checkpoint" VALUES('crm','source -> target','"after c_1"','01a20d26-0c93-7004-a3de-8c6d78fd74be','2026-11-24T10:42:07.123Z','a-b');
INSERT INTO "checkpoint" VALUES('erp','source -> target','"next"','01a20d26-0c93-7005-b806-213da73294c6','2026-11-24T10:42:07.123Z',NULL);
CREATE TABLE failure (                  -- the retry queue, the dead letters, and what became of them
    id TEXT PRIMARY KEY,
    run TEXT NOT NULL REFERENCES run (id),      -- the run it first failed in
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    spec_hash TEXT NOT NULL,            -- of the spec it last failed under
    key TEXT NOT NULL,                  -- identity of the record at the source; empty if it has none
    state TEXT NOT NULL,                -- open: waiting | dead | unknown; closed: resolved | superseded | discarded
    stage TEXT NOT NULL,                -- read | map | check | write
    class TEXT NOT NULL,                -- mapping | contract | network | timeout | rate_limit | server ...
    status INTEGER,                     -- of the answer, where there was one
    message TEXT NOT NULL,
    shape TEXT NOT NULL,                -- the message without what differs from record to record; groups go by it
    "row" TEXT,                         -- target path of the mapping row to blame
    "column" INTEGER,
    file TEXT NOT NULL,
    line INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    first_at TEXT NOT NULL,
    last_at TEXT NOT NULL,              -- of the last attempt or change of state
    next_attempt_at TEXT,               -- only while waiting
    source TEXT NOT NULL,               -- JSON: the record before mapping
    payload TEXT,                       -- JSON: the mapped record
    request TEXT,
    response TEXT,
    idempotency_key TEXT,
    counted_by TEXT NOT NULL,           -- the run whose books hold the record as waiting, dead or unknown
    counted_at TEXT NOT NULL            -- when they came to
, flow TEXT NOT NULL DEFAULT 'source -> target');
INSERT INTO "failure" VALUES('01a20d26-0c93-7001-be19-b057df5dbe4a','01a20d26-0c93-7000-90ca-19b4dfb3082f','crm','abc','c_2','dead','write','server',NULL,'503 Service Unavailable','… Service Unavailable',NULL,NULL,'specs/crm.md',41,1,'2026-11-24T10:42:07.123Z','2026-11-24T10:42:07.123Z',NULL,'{"id":"c_2"}',NULL,NULL,NULL,NULL,'01a20d26-0c93-7000-90ca-19b4dfb3082f','2026-11-24T10:42:07.123Z','source -> target');
INSERT INTO "failure" VALUES('01a20d26-0c93-7002-bfb1-34dedc3a6807','01a20d26-0c93-7000-90ca-19b4dfb3082f','crm','abc','c_3','waiting','write','server',NULL,'503 Service Unavailable','… Service Unavailable',NULL,NULL,'specs/crm.md',41,1,'2026-11-24T10:42:07.123Z','2026-11-24T10:42:07.123Z','2026-11-24T10:43:00.000Z','{"id":"c_3"}',NULL,NULL,NULL,NULL,'01a20d26-0c93-7000-90ca-19b4dfb3082f','2026-11-24T10:42:07.123Z','source -> target');
INSERT INTO "failure" VALUES('01a20d26-0c93-7003-bb9f-2c3be51212a6','01a20d26-0c93-7000-90ca-19b4dfb3082f','crm','abc','c_4','unknown','write','server',NULL,'503 Service Unavailable','… Service Unavailable',NULL,NULL,'specs/crm.md',41,1,'2026-11-24T10:42:07.123Z','2026-11-24T10:42:07.123Z',NULL,'{"id":"c_4"}','{"id":"c_4"}',NULL,NULL,NULL,'01a20d26-0c93-7000-90ca-19b4dfb3082f','2026-11-24T10:42:07.123Z','source -> target');
CREATE TABLE flow (
    id INTEGER PRIMARY KEY,
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    name TEXT NOT NULL DEFAULT 'source -> target',
    UNIQUE (spec_id, name)
);
INSERT INTO "flow" VALUES(1,'crm','source -> target');
INSERT INTO "flow" VALUES(2,'erp','source -> target');
CREATE TABLE "full_scan" (                    -- reads of a whole source, where what it has no more is deleted at the target
    flow_id INTEGER PRIMARY KEY,    -- integration.id
    target TEXT NOT NULL,               -- where the records are that are known by `presence`
    latest INTEGER NOT NULL DEFAULT 0,  -- number of the latest such read
    held INTEGER NOT NULL DEFAULT 0,    -- of the one that the checkpoint is in the middle of, or 0
    complete INTEGER NOT NULL DEFAULT 0,-- of the latest that came to the end
    keyless INTEGER NOT NULL DEFAULT 0, -- of the latest that found records without a key
    undecided INTEGER NOT NULL DEFAULT 0,-- 1 if a complete one found records missing of which nothing was decided yet
    nameless INTEGER NOT NULL DEFAULT 0 -- how many are missing of which nobody knows what the target knows them by
);
INSERT INTO "full_scan" VALUES(1,'target-1',2,0,2,0,1,0);
CREATE TABLE integration (              -- one row a spec, or a job reported from elsewhere
    id INTEGER PRIMARY KEY,             -- short, for record_state; everything else goes by spec_id
    spec_id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    path TEXT NOT NULL,                 -- of the spec, from the workspace; empty for a job reported from elsewhere
    status TEXT NOT NULL,               -- draft | approved | in-progress | completed | whatever the spec says
    schedule TEXT NOT NULL,             -- the Frequency section's choice, as written
    registered_at TEXT NOT NULL,
    revision INTEGER NOT NULL DEFAULT 0,-- grows with every change to anything of the integration
    waiting INTEGER NOT NULL DEFAULT 0, -- open failures, by state
    dead INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0
, paused_at TEXT, paused_by TEXT, paused_reason TEXT, field_profile TEXT);
INSERT INTO "integration" VALUES(1,'crm','CRM','specs/crm.md','in-progress','Daily','2026-11-24T10:42:07.123Z',9,1,1,1,NULL,NULL,NULL,'{"fields":["id"]}');
INSERT INTO "integration" VALUES(2,'erp','ERP','specs/erp.md','draft','','2026-11-24T10:42:07.123Z',3,0,0,0,'2026-11-24T10:42:07.123Z','ada','a while',NULL);
CREATE TABLE "log_event" (                    -- append-only, but for retention
    id INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used twice: a tail reads id > last
    at TEXT NOT NULL,
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    run TEXT REFERENCES run (id),
    level TEXT NOT NULL,                -- error | warning | info
    kind TEXT NOT NULL,                 -- page | retry | rate_limit | state | guard | log ...
    message TEXT NOT NULL,
    fields TEXT NOT NULL DEFAULT '{}' -- a JSON object
);
INSERT INTO "log_event" VALUES(1,'2026-11-24T10:42:07.123Z','crm','01a20d26-0c93-7000-90ca-19b4dfb3082f','info','state','started by manual','{"state":"running"}');
INSERT INTO "log_event" VALUES(2,'2026-11-24T10:42:07.123Z','crm','01a20d26-0c93-7000-90ca-19b4dfb3082f','warning','page','a page','{"read":5,"written":2,"dead":1,"waiting":1,"unknown":1}');
INSERT INTO "log_event" VALUES(3,'2026-11-24T10:42:07.123Z','crm','01a20d26-0c93-7000-90ca-19b4dfb3082f','warning','state','partial','{"state":"partial"}');
INSERT INTO "log_event" VALUES(4,'2026-11-24T10:42:07.123Z','crm','01a20d26-0c93-7004-a3de-8c6d78fd74be','info','state','started by schedule','{"state":"running"}');
INSERT INTO "log_event" VALUES(5,'2026-11-24T10:42:07.123Z','crm','01a20d26-0c93-7004-a3de-8c6d78fd74be','info','page','a page','{"read":1,"written":1}');
INSERT INTO "log_event" VALUES(6,'2026-11-24T10:42:07.123Z','crm','01a20d26-0c93-7004-a3de-8c6d78fd74be','info','state','succeeded','{"state":"succeeded"}');
INSERT INTO "log_event" VALUES(7,'2026-11-24T10:42:07.123Z','erp','01a20d26-0c93-7005-b806-213da73294c6','info','state','started by manual','{"state":"running"}');
INSERT INTO "log_event" VALUES(8,'2026-11-24T10:42:07.123Z','erp','01a20d26-0c93-7005-b806-213da73294c6','info','page','a page','{"read":1,"written":1}');
INSERT INTO "log_event" VALUES(9,'2026-11-24T10:42:07.123Z','erp',NULL,'info','pause','paused by ada: a while','{"paused":true}');
INSERT INTO "log_event" VALUES(10,'2026-11-24T10:42:07.123Z','crm',NULL,'warning','alert','alert: slow: slow','{"state":"firing"}');
CREATE TABLE record_state (             -- what is known to be at the target; as narrow as can be: a row a record
    flow_id INTEGER NOT NULL,       -- integration.id
    key TEXT NOT NULL,
    hash BLOB NOT NULL,                 -- 16 bytes: of the mapped record with sorted keys; in doubt, others
    PRIMARY KEY (flow_id, key)
) WITHOUT ROWID;
INSERT INTO "record_state" VALUES(1,'c_1',X'66656463626139383736353433323130');
INSERT INTO "record_state" VALUES(1,'c_5',X'30313233343536373839616263646566');
CREATE TABLE record_state_page (        -- states of the latest pages, not yet merged into record_state: they win
    id INTEGER PRIMARY KEY,
    flow_id INTEGER NOT NULL,
    keys TEXT NOT NULL,                 -- a JSON array
    hashes BLOB NOT NULL                -- theirs, one after the other
);
INSERT INTO "record_state_page" VALUES(1,1,'["c_6"]',X'01010101010101010101010101010101');
INSERT INTO "record_state_page" VALUES(2,2,'["x"]',X'68686868686868686868686868686868');
CREATE TABLE rollup (                   -- counts of each minute, hour and day (UTC)
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    span TEXT NOT NULL,                 -- minute | hour | day
    start TEXT NOT NULL,
    flow TEXT NOT NULL DEFAULT 'source -> target',
    read INTEGER NOT NULL DEFAULT 0,
    written INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    filtered INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    bytes_in INTEGER NOT NULL DEFAULT 0,
    bytes_out INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0,  -- failed attempts and failed runs; then the same by error class
    errors_mapping INTEGER NOT NULL DEFAULT 0, errors_contract INTEGER NOT NULL DEFAULT 0, errors_network INTEGER NOT NULL DEFAULT 0, errors_timeout INTEGER NOT NULL DEFAULT 0, errors_rate_limit INTEGER NOT NULL DEFAULT 0, errors_server INTEGER NOT NULL DEFAULT 0, errors_unauthorized INTEGER NOT NULL DEFAULT 0, errors_conflict INTEGER NOT NULL DEFAULT 0, errors_rejected INTEGER NOT NULL DEFAULT 0, errors_bad_answer INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (spec_id, span, start, flow)
) WITHOUT ROWID;
INSERT INTO "rollup" VALUES('crm','day','2026-11-24T00:00:00.000Z','source -> target',6,3,0,0,1,1,1,2000,1000,3,0,0,0,0,0,3,0,0,0,0);
INSERT INTO "rollup" VALUES('crm','hour','2026-11-24T10:00:00.000Z','source -> target',6,3,0,0,1,1,1,2000,1000,3,0,0,0,0,0,3,0,0,0,0);
INSERT INTO "rollup" VALUES('crm','minute','2026-11-24T10:42:00.000Z','source -> target',6,3,0,0,1,1,1,2000,1000,3,0,0,0,0,0,3,0,0,0,0);
INSERT INTO "rollup" VALUES('erp','day','2026-11-24T00:00:00.000Z','source -> target',1,1,0,0,0,0,0,1000,500,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "rollup" VALUES('erp','hour','2026-11-24T10:00:00.000Z','source -> target',1,1,0,0,0,0,0,1000,500,0,0,0,0,0,0,0,0,0,0,0);
INSERT INTO "rollup" VALUES('erp','minute','2026-11-24T10:42:00.000Z','source -> target',1,1,0,0,0,0,0,1000,500,0,0,0,0,0,0,0,0,0,0,0);
CREATE TABLE run (
    id TEXT PRIMARY KEY,
    spec_id TEXT NOT NULL REFERENCES integration (spec_id),
    spec_hash TEXT NOT NULL,            -- SHA-256 of the spec's bytes, in hex
    trigger TEXT NOT NULL,              -- manual | schedule | retry | demo | whatever a reporting script calls it
    state TEXT NOT NULL,                -- running | succeeded | partial | failed | cancelled | interrupted
    started_at TEXT NOT NULL,
    ended_at TEXT,
    duration REAL,                      -- seconds from start to end
    read INTEGER NOT NULL DEFAULT 0,    -- = written + unchanged + filtered + waiting + dead + unknown
    written INTEGER NOT NULL DEFAULT 0, -- = created + updated + deleted, where the target tells
    created INTEGER NOT NULL DEFAULT 0,
    updated INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    filtered INTEGER NOT NULL DEFAULT 0,
    waiting INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    bytes_in INTEGER NOT NULL DEFAULT 0,
    bytes_out INTEGER NOT NULL DEFAULT 0,
    total INTEGER,                      -- records the source says the whole read holds, where it says so
    cursor TEXT NOT NULL DEFAULT 'null',-- JSON: where the run had come to
    error TEXT,
    pid INTEGER,                        -- the process, so that a run whose process is gone is seen as interrupted
    host TEXT,
    process_started TEXT                -- tells a process from a later one with the same pid
, cancel INTEGER NOT NULL DEFAULT 0, progress TEXT, flow TEXT NOT NULL DEFAULT 'source -> target');
INSERT INTO "run" VALUES('01a20d26-0c93-7000-90ca-19b4dfb3082f','crm','abc','manual','partial','2026-11-24T10:42:07.123Z','2026-11-24T10:42:07.123Z',0.0,5,2,0,0,0,0,0,1,1,1,1000,500,NULL,'"after c_5"',NULL,22128,'vm','52a239da-1bf7-416a-8ec5-d5c8626da9e8/575874',0,NULL,'source -> target');
INSERT INTO "run" VALUES('01a20d26-0c93-7004-a3de-8c6d78fd74be','crm','abd','schedule','succeeded','2026-11-24T10:42:07.123Z','2026-11-24T10:42:07.123Z',0.0,1,1,0,0,0,0,0,0,0,0,1000,500,NULL,'"after c_1"',NULL,22128,'vm','52a239da-1bf7-416a-8ec5-d5c8626da9e8/575874',0,NULL,'source -> target');
INSERT INTO "run" VALUES('01a20d26-0c93-7005-b806-213da73294c6','erp','e','manual','running','2026-11-24T10:42:07.123Z',NULL,NULL,1,1,0,0,0,0,0,0,0,0,1000,500,NULL,'"next"',NULL,NULL,NULL,NULL,0,NULL,'source -> target');
CREATE TABLE "source_key" (                 -- the records that the source had
    flow_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    full_scan INTEGER NOT NULL,             -- the latest that saw it: less than sweep.complete, and it is missing
    identity TEXT,                      -- JSON: what the target knows it by; null if it was never mapped
    tombstone INTEGER NOT NULL DEFAULT 0,    -- 1 once it was missing and its delete was sent, whatever came of that
    PRIMARY KEY (flow_id, key)
) WITHOUT ROWID;
CREATE TABLE "source_key_page" (            -- the latest pages, not yet merged into presence
    id INTEGER PRIMARY KEY,
    flow_id INTEGER NOT NULL,
    full_scan INTEGER NOT NULL,
    keys TEXT NOT NULL,                 -- a JSON array
    identities TEXT NOT NULL,           -- theirs: an array of JSON texts and nulls
    records INTEGER NOT NULL            -- how many
);
INSERT INTO "source_key_page" VALUES(1,1,1,'["c_1", "c_5"]','["{\"target\":{\"id\":1}}", "{\"target\":{\"id\":5}}"]',2);
INSERT INTO "source_key_page" VALUES(2,1,2,'["c_1"]','["{\"target\":{\"id\":1}}"]',1);
CREATE TABLE spec_version (hash TEXT PRIMARY KEY, text TEXT NOT NULL, saved_at TEXT NOT NULL);
INSERT INTO "spec_version" VALUES('abd','---
spec_id: crm
---
','2026-11-24T12:00:00.000Z');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX run_by_spec ON run (spec_id, id);
CREATE INDEX run_ended ON run (spec_id, ended_at, state, duration) WHERE ended_at IS NOT NULL;
CREATE INDEX run_succeeded ON run (spec_id, ended_at) WHERE state = 'succeeded';
CREATE INDEX run_arrived ON run (spec_id, started_at) WHERE state IN ('succeeded', 'partial');
CREATE INDEX run_running ON run (spec_id) WHERE state = 'running';
CREATE INDEX failure_open ON failure (id) WHERE state IN ('waiting', 'dead', 'unknown');
CREATE INDEX failure_open_by_spec ON failure (spec_id, id) WHERE state IN ('waiting', 'dead', 'unknown');
CREATE INDEX failure_open_group ON failure (spec_id, stage, "row", class, status, state, shape, last_at)
    WHERE state IN ('waiting', 'dead', 'unknown');
CREATE INDEX failure_due ON failure (spec_id, next_attempt_at) WHERE state = 'waiting';
CREATE INDEX failure_waiting ON failure (spec_id, first_at) WHERE state = 'waiting';
CREATE INDEX failure_by_run ON failure (run, id);
CREATE INDEX failure_closed ON failure (last_at) WHERE NOT (state IN ('waiting', 'dead', 'unknown'));
CREATE INDEX failure_closed_by_spec ON failure (spec_id, last_at) WHERE NOT (state IN ('waiting', 'dead', 'unknown'));
CREATE INDEX log_event_by_spec ON log_event (spec_id, id);
CREATE INDEX log_event_by_run ON log_event (run, id) WHERE run IS NOT NULL;
CREATE VIEW event AS SELECT id, at, spec_id, run, level, kind, message, fields FROM log_event;
CREATE INDEX run_by_spec_hash ON run (spec_hash);
CREATE UNIQUE INDEX failure_open_key ON failure (spec_id, flow, key) WHERE state IN ('waiting', 'dead', 'unknown') AND key <> '';
CREATE INDEX record_state_page_by_flow ON record_state_page (flow_id, id);
CREATE INDEX source_key_tombstone ON source_key (flow_id, key) WHERE tombstone = 1;
CREATE INDEX source_key_page_by_flow ON source_key_page (flow_id, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('log_event',10);
COMMIT;
