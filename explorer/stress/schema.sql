-- The database of a stress campaign. docs/stress-store.md describes each table; `PRAGMA user_version` is the version.

CREATE TABLE campaigns (
  id INTEGER PRIMARY KEY,
  request TEXT NOT NULL,            -- JSON: the inputs that determine the campaign
  model TEXT NOT NULL,              -- hash of the code that decides the answers of jobs
  slabrace TEXT NOT NULL,           -- version that began it
  began REAL NOT NULL,              -- seconds since 1970
  seconds REAL NOT NULL DEFAULT 0,  -- time that it has run, over all its parts
  epoch INTEGER NOT NULL DEFAULT 0, -- the epoch in progress
  digest TEXT NOT NULL DEFAULT ''   -- over the answers of all folded jobs, in their order
) STRICT;

CREATE TABLE cells (
  id INTEGER PRIMARY KEY,
  campaign INTEGER NOT NULL REFERENCES campaigns,
  key TEXT NOT NULL,                -- hash of all that its answers depend on
  name TEXT NOT NULL,               -- in words
  point TEXT NOT NULL,              -- JSON: the options of its runs
  scenario TEXT NOT NULL,
  kernel TEXT NOT NULL,             -- with variant: `5.3 +fix -other`
  strategy TEXT NOT NULL,
  drawn_in INTEGER,                 -- the epoch whose swarm drew it; NULL: of the matrix
  state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
  why TEXT NOT NULL DEFAULT '',     -- why it is closed
  schedules INTEGER NOT NULL DEFAULT 0,
  with_findings INTEGER NOT NULL DEFAULT 0,
  steps INTEGER NOT NULL DEFAULT 0,
  draws INTEGER NOT NULL DEFAULT 0, -- schedules of samplers that feed the estimates
  once INTEGER NOT NULL DEFAULT 0,  -- classes seen once, by a draw
  classes INTEGER NOT NULL DEFAULT 0, -- classes in the table; times 2**level in all
  level INTEGER NOT NULL DEFAULT 0, -- only classes whose last `level` bits are 0 are in the table
  gain REAL NOT NULL DEFAULT 0,     -- discounted yield, for the choice of cells
  spent REAL NOT NULL DEFAULT 0,    -- discounted steps, likewise
  guide BLOB NOT NULL,              -- what its next epoch is planned from
  UNIQUE (campaign, key)
) STRICT;

CREATE TABLE epochs (
  campaign INTEGER NOT NULL REFERENCES campaigns,
  number INTEGER NOT NULL,
  schedules INTEGER NOT NULL,       -- of the campaign up to its end, and likewise:
  steps INTEGER NOT NULL,
  classes INTEGER NOT NULL,
  pairs INTEGER NOT NULL,
  causes INTEGER NOT NULL,
  chance REAL,                      -- that the next draw is of a new class (Good-Turing)
  seconds REAL NOT NULL,
  digest TEXT NOT NULL,
  PRIMARY KEY (campaign, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
  id INTEGER PRIMARY KEY,
  campaign INTEGER NOT NULL REFERENCES campaigns,
  epoch INTEGER NOT NULL,
  place INTEGER NOT NULL,           -- its order in the epoch
  cell INTEGER NOT NULL REFERENCES cells,
  way TEXT NOT NULL,
  first INTEGER NOT NULL,           -- number of its first schedule in the cell
  count INTEGER NOT NULL,           -- its schedules; once it is done, those that have run
  state TEXT NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'leased', 'done', 'lost')),
  tries INTEGER NOT NULL DEFAULT 0, -- workers that were lost with it: three are too many
  kills INTEGER NOT NULL DEFAULT 0, -- workers that something else killed meanwhile: twelve are too many
  is_suspect INTEGER NOT NULL DEFAULT 0, -- it was in progress when a whole campaign was lost
  why TEXT NOT NULL DEFAULT '',     -- why it is lost
  digest TEXT NOT NULL DEFAULT '',
  UNIQUE (campaign, epoch, place)
) STRICT;
CREATE INDEX jobs_planned ON jobs (campaign, epoch, place) WHERE state = 'planned';
CREATE INDEX jobs_leased ON jobs (campaign) WHERE state = 'leased';
CREATE INDEX jobs_lost ON jobs (campaign) WHERE state = 'lost';

-- Apart from the jobs, whose rows stay: rows that become short leave the pages of a table nearly empty.
CREATE TABLE work (
  job INTEGER PRIMARY KEY REFERENCES jobs,
  plan BLOB NOT NULL,               -- the job
  answer BLOB                       -- NULL before it is done
) STRICT;                           -- a row goes at the end of its epoch, unless the job is lost

CREATE TABLE classes (
  cell INTEGER NOT NULL REFERENCES cells,
  class INTEGER NOT NULL,           -- hash of the Mazurkiewicz trace, as a signed number
  drawn INTEGER NOT NULL,           -- schedules that drew it without bias, up to 3
  seen INTEGER NOT NULL,            -- schedules that showed it, up to 3
  PRIMARY KEY (cell, class)
) STRICT, WITHOUT ROWID;

CREATE TABLE pairs (
  cell INTEGER NOT NULL REFERENCES cells,
  first TEXT NOT NULL,              -- `function: operation` of the first access
  second TEXT NOT NULL,             -- and of the racing one after it
  job INTEGER NOT NULL REFERENCES jobs, -- that showed it first
  PRIMARY KEY (cell, first, second)
) STRICT, WITHOUT ROWID;

CREATE TABLE functions (
  cell INTEGER NOT NULL REFERENCES cells,
  name TEXT NOT NULL,               -- a kernel function that made a step in a race
  PRIMARY KEY (cell, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE reaches (
  cell INTEGER NOT NULL REFERENCES cells,
  property TEXT NOT NULL,           -- a `sometimes` of the scenario
  job INTEGER REFERENCES jobs,      -- the first that reached it; NULL: none yet
  PRIMARY KEY (cell, property)
) STRICT, WITHOUT ROWID;

CREATE TABLE bugs (
  id INTEGER PRIMARY KEY AUTOINCREMENT, -- people write these numbers down: none is used twice
  cause TEXT NOT NULL UNIQUE,       -- a judged cause (`F5`), or `signature on kernel`
  state TEXT NOT NULL CHECK (state IN ('open', 'known', 'fixed', 'dup', 'invalid')),
  judged TEXT NOT NULL DEFAULT '',  -- of a known one: true, caller or planted
  of INTEGER REFERENCES bugs,       -- of a dup: the bug that it is a symptom of
  note TEXT NOT NULL DEFAULT '',
  campaign INTEGER NOT NULL REFERENCES campaigns, -- that found it first
  fixed_in INTEGER REFERENCES campaigns -- the latest campaign when it was marked as fixed
) STRICT;

CREATE TABLE sightings (
  cell INTEGER NOT NULL REFERENCES cells,
  signature TEXT NOT NULL,
  way TEXT NOT NULL,
  bug INTEGER NOT NULL REFERENCES bugs,
  count INTEGER NOT NULL,           -- schedules that showed it
  spread INTEGER NOT NULL,          -- sum of hashes of these schedules' numbers
  job INTEGER NOT NULL REFERENCES jobs, -- that showed it first
  first INTEGER NOT NULL,           -- number of the first of these schedules in the cell
  PRIMARY KEY (cell, signature, way)
) STRICT, WITHOUT ROWID;

CREATE TABLE witnesses (
  cell INTEGER NOT NULL REFERENCES cells,
  signature TEXT NOT NULL,
  job INTEGER NOT NULL REFERENCES jobs,
  first INTEGER NOT NULL,           -- number of the schedule in the cell
  finding TEXT NOT NULL,            -- JSON
  log TEXT NOT NULL,                -- name of its file in findings/
  short TEXT NOT NULL DEFAULT '',   -- name of the shrunk log's file, if there is one
  PRIMARY KEY (cell, signature)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
  id INTEGER PRIMARY KEY,
  campaign INTEGER REFERENCES campaigns,
  at REAL NOT NULL,                 -- seconds since 1970
  event TEXT NOT NULL,
  fields TEXT NOT NULL              -- JSON
) STRICT;
