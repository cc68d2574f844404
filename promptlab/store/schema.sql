-- promptlab.duckdb: the contract for analysts.
--
-- The file is a product: `promptlab` builds it from the journals in runs/ and replaces it as a whole, so it may be
-- opened, held and deleted at any time. DuckDB 1.5 and later read it. Column names are the field names of
-- promptlab/records.py and diffusers' names of settings. Views for everyday questions are in views.sql.
--
-- Ids are hashes of content. Times are UTC. What could not be measured is NULL with a reason, never NaN and never 0.
-- There are no keys or indexes on purpose; "key" below names the columns that are unique together.

-- One row a study, as its last run saw it. Key: name.
CREATE TABLE study (
    name VARCHAR,              -- the file name of its YAML, without ending
    hash VARCHAR,              -- SHA-256 of the text
    text VARCHAR,              -- the YAML, whole
    question VARCHAR,          -- this, backend, model and the tables axis, probe and contrast: what the study declares;
    backend VARCHAR,           -- NULL and no rows where no run said so and its text does not read as a study today
    model VARCHAR,
    plan VARCHAR,              -- id of the plan that is current
    cells BIGINT,              -- cells of that plan
    seeds BIGINT,              -- seeds of each cell
    runs BIGINT                -- how often it was run
);

-- The axes of a study: one row a column of levels. Key: study, name.
CREATE TABLE axis (
    study VARCHAR,
    name VARCHAR,              -- the column, as level.axis
    axis VARCHAR,              -- the axis in the study file
    kind VARCHAR,              -- values, range, zip, order, position, paraphrase, ladder, tokens, swap, alone, prompts
    part VARCHAR,              -- level: the axis' own column; arm, at, value: columns that it brings along
    role VARCHAR,              -- unit: makes up the prompt family; manipulation: varies within one; setting
    unit VARCHAR,              -- what a level counts: tokens, details, place, steps, pixels; else ''
    position BIGINT,           -- order in the study, from 0
    names VARCHAR[]            -- slots or objects that the axis rearranges, as its levels name them
);

-- The probes of a study. Key: study, name.
CREATE TABLE probe (
    study VARCHAR,
    name VARCHAR,              -- as score.probe
    probe_id VARCHAR,          -- as score.probe_id; NULL where no run said so
    position BIGINT,           -- order in the study, from 0
    options VARCHAR            -- JSON: the options that the study gives it
);

-- The comparisons that a study declares: mean of level_a less mean of level_b. Key: study, name.
CREATE TABLE contrast (
    study VARCHAR,
    name VARCHAR,              -- as effect.contrast
    position BIGINT,           -- order in the study, from 0
    probe VARCHAR,             -- name of the probe
    measure VARCHAR,
    target VARCHAR,            -- as effect.target: the object or phrase that counts; '': all are averaged
    axis VARCHAR,
    level_a VARCHAR,           -- levels as text, as level.level
    level_b VARCHAR,
    conditions MAP(VARCHAR, VARCHAR), -- levels at which other axes are held
    margin DOUBLE,             -- smallest difference that matters; NULL: not said
    detect DOUBLE,             -- difference of rates that the study must be able to find; NULL: not said
    says VARCHAR,              -- what the first level does, in words; NULL: not said
    family VARCHAR             -- confirmatory or exploratory
);

-- One row a run. Key: id.
CREATE TABLE run (
    id VARCHAR,                -- start and a random ending; sorts by time
    study VARCHAR,
    status VARCHAR,            -- complete, interrupted, failed; open: it is running, or it was killed
    started TIMESTAMP,
    ended TIMESTAMP,           -- NULL while open
    study_hash VARCHAR,        -- SHA-256 of the study's text in this run
    device VARCHAR,            -- where the model ran
    host VARCHAR,
    platform VARCHAR,
    python VARCHAR,
    promptlab VARCHAR,         -- version
    argv VARCHAR[]             -- the command, keys redacted
);

-- Everything else that is known about a run, one fact a row: library versions, dtype, batch size, model commit,
-- scheduler config. Key: run, name.
CREATE TABLE fact (
    run VARCHAR,
    name VARCHAR,              -- e.g. torch, dtype, model.commit
    value VARCHAR
);

-- One row a cell: one combination of levels, one prompt, one set of settings. Key: study, id.
-- Cells of earlier plans stay, with current = false; the views show current cells only.
-- Of pictures made elsewhere (backend folder) the settings are NULL unless they came with the pictures.
CREATE TABLE cell (
    study VARCHAR,
    id VARCHAR,                -- hash of the study's name and the levels
    position BIGINT,           -- order in the plan, from 0
    prompt_group VARCHAR,      -- Cell.group: the prompt family, within which is paired; the unit of inference
    prompt VARCHAR,            -- the text that the model is given
    prompt_id VARCHAR,         -- see table prompt
    backend VARCHAR,
    model VARCHAR,
    tier VARCHAR,              -- T0 rendered truth, T1 the miniature, T2 real models; NULL if not said
    guidance_scale DOUBLE,     -- w in u + w (c - u): 0 unconditional, 1 purely conditional
    distilled_guidance_scale DOUBLE, -- input of a guidance-distilled model; NULL: the model's own, or there is none
    num_inference_steps BIGINT,
    height BIGINT,             -- asked for, in pixels
    width BIGINT,
    scheduler VARCHAR,         -- NULL: the model's own
    negative_prompt VARCHAR,
    current BOOLEAN,           -- whether the study's current plan holds this cell
    run VARCHAR                -- the run that planned it last
);

-- The levels of a cell, one axis a row. Key: study, cell_id, axis.
CREATE TABLE level (
    study VARCHAR,
    cell_id VARCHAR,
    axis VARCHAR,
    level VARCHAR,             -- as text; 'none' for null, 'true', 'false'
    level_number DOUBLE,       -- the number, where the level is one
    level_position BIGINT      -- place in the order of this axis, from 0
);

-- Rendered prompts. Key: id.
CREATE TABLE prompt (
    id VARCHAR,                -- hash of the text, its phrases and its claims
    text VARCHAR,
    swapped VARCHAR,           -- the foil: attributes of the first two objects exchanged; NULL if there is none
    alone VARCHAR[]            -- for each object, the prompt that asks for it alone
);

-- Tracked pieces of a prompt. Key: prompt_id, position.
CREATE TABLE phrase (
    prompt_id VARCHAR,
    position BIGINT,           -- order of appearance, from 0
    name VARCHAR,
    text VARCHAR,
    start_char BIGINT,         -- Phrase.start: text = prompt[start_char:end_char], in characters
    end_char BIGINT,           -- Phrase.end
    role VARCHAR               -- object, attribute, phrase, filler
);

-- What a prompt claims: one (attribute, object) pair a row. Key: prompt_id, position.
CREATE TABLE binding (
    prompt_id VARCHAR,
    position BIGINT,           -- order of mention, from 0
    object VARCHAR,            -- the object's name in the study
    noun VARCHAR,
    attribute VARCHAR,
    kind VARCHAR               -- kind of attribute, e.g. colour
);

-- Which image shows a cell at a seed. Key: study, cell_id, seed. The image may be missing in table image: not made yet.
CREATE TABLE cell_image (
    study VARCHAR,
    cell_id VARCHAR,
    seed BIGINT,               -- same seed, same initial noise: images of different cells pair by it
    image VARCHAR              -- image.id; studies that ask for the same picture share it
);

-- Pictures. Key: id. The file is images/<first two digits of file>/<file>.png
-- The recipe of a picture made elsewhere says its file there and that file's SHA-256. One that people rated and that is
-- not here has status ok and no file.
CREATE TABLE image (
    id VARCHAR,                -- hash of the recipe
    status VARCHAR,            -- ok, nsfw_blocked, nan, degenerate, oom, refused, error, invalid_image; only ok counts
    reason VARCHAR,            -- why it is not ok
    file VARCHAR,              -- SHA-256 of the PNG; NULL if there is no picture
    pixels VARCHAR,            -- SHA-256 of the raw RGB bytes
    width BIGINT,              -- of the picture
    height BIGINT,
    seconds DOUBLE,            -- time to make it: its share of its batch
    clipped DOUBLE,            -- share of channel values cut off at black or white, 0 to 1
    batch_size BIGINT,
    recipe VARCHAR,            -- JSON: all that decided the pixels; the columns below repeat the usual part
    backend VARCHAR,
    model VARCHAR,
    prompt VARCHAR,
    seed BIGINT,
    guidance_scale DOUBLE,
    distilled_guidance_scale DOUBLE,
    num_inference_steps BIGINT,
    scheduler VARCHAR,
    negative_prompt VARCHAR,
    run VARCHAR                -- the run that made it
);

-- What numbers mean. Key: name.
CREATE TABLE measure (
    name VARCHAR,
    description VARCHAR,
    unit VARCHAR,
    lower DOUBLE,              -- bounds; NULL: unbounded
    upper DOUBLE,
    higher_is_better BOOLEAN,  -- NULL: neither is better
    reference VARCHAR          -- Measure.references: papers
);

-- Numbers about images. Key: image, prompt_id, probe_id, measure, target. Scores of a picture that was made anew are
-- left out.
CREATE TABLE score (
    image VARCHAR,
    prompt_id VARCHAR,         -- whose claims were asked about; NULL (old journals): of whatever prompt shows the image
    probe VARCHAR,             -- name of the probe, e.g. binding; human: what raters say (promptlab/exchange/ratings.py)
    probe_id VARCHAR,          -- name, version and hash of its options and weights, e.g. binding-1-0a1b2c3d
    measure VARCHAR,
    target VARCHAR,            -- about what: a phrase, an object; '' for the whole image
    value DOUBLE,              -- NULL: not measured, see reason
    label VARCHAR,             -- a category, where the measure is one (correct, swap, leak, other, neglect, fused)
    reason VARCHAR,
    detail VARCHAR,            -- JSON: what the probe saw
    run VARCHAR                -- the run that measured it
);

-- How well a probe does on pictures of known truth. Key: probe_id, kind.
CREATE TABLE passport (
    probe VARCHAR,             -- name of the probe, e.g. binding
    probe_id VARCHAR,          -- name, version and hash of its options and weights, e.g. binding-1-0a1b2c3d
    kind VARCHAR,              -- kind of question: binding, noun, colour.red, swap.contrast
    n BIGINT,                  -- pictures
    sensitivity DOUBLE,
    sensitivity_low DOUBLE,    -- interval
    sensitivity_high DOUBLE,
    specificity DOUBLE,
    specificity_low DOUBLE,
    specificity_high DOUBLE,
    youden DOUBLE,             -- sensitivity + specificity - 1; below 0.5 the probe reports no rate
    auc DOUBLE,
    detail VARCHAR,            -- JSON
    run VARCHAR
);

-- What the contrasts of a study came to, by its last run that has any. Key: study, contrast, probe, measure, target.
CREATE TABLE effect (
    study VARCHAR,
    contrast VARCHAR,          -- as named in the study
    probe VARCHAR,             -- name of the probe, e.g. binding
    probe_id VARCHAR,          -- name, version and hash of its options and weights, e.g. binding-1-0a1b2c3d; NULL: no score
    measure VARCHAR,
    target VARCHAR,
    estimate DOUBLE,           -- mean over prompts of the paired difference a - b
    low DOUBLE,                -- interval
    high DOUBLE,
    p DOUBLE,                  -- sign-flip permutation, two-sided
    p_adjusted DOUBLE,         -- after Holm over the confirmatory contrasts; NULL: exploratory
    n_groups BIGINT,           -- prompts: the unit of inference
    n_pairs BIGINT,            -- image pairs
    n_dropped BIGINT,          -- pairs of which an arm was not measured
    dz DOUBLE,                 -- mean over standard deviation of the prompts' differences
    mean_a DOUBLE,
    mean_b DOUBLE,
    seed_correlation DOUBLE,   -- of a and b at shared seeds: what pairing buys
    method VARCHAR,
    confidence DOUBLE,
    reason VARCHAR,            -- why a number is missing, or what to beware of
    verdict VARCHAR,           -- supported, partly, contradicted, not testable here
    detail VARCHAR,            -- JSON
    run VARCHAR
);

-- What was measured of the pictures of a study's current cells, so that nobody has to count. Key: study, probe_id,
-- measure.
CREATE TABLE measured (
    study VARCHAR,
    probe VARCHAR,
    probe_id VARCHAR,
    measure VARCHAR,
    scores BIGINT,             -- rows of view scored
    with_value BIGINT,         -- of these, with a value
    with_label BIGINT          -- of these, with a label
);

-- Scores added up by cell, of current cells and of pictures that are ok, so that means and shares of very many pictures
-- are quick. The mean of a cell is sum(total) / sum(with_value). Key: study, probe_id, measure, target, cell_id, label.
CREATE TABLE cell_score (
    study VARCHAR,
    probe VARCHAR,
    probe_id VARCHAR,
    measure VARCHAR,
    target VARCHAR,
    cell_id VARCHAR,
    label VARCHAR,             -- a row each, where the measure is a category; NULL: scores without a label
    scores BIGINT,             -- rows of view scored
    with_value BIGINT,         -- of these, with a value
    total DOUBLE,              -- the sum of these values; NULL where there is none
    rate BOOLEAN               -- whether each of these values is 0 or 1
);

-- Probes whose scores the views leave out: the study's last run used another version, or other options, of the same
-- probe, and of one picture one answer counts. Their scores stay in table score. Key: study, probe_id.
CREATE TABLE outdated (
    study VARCHAR,
    probe VARCHAR,
    probe_id VARCHAR
);

-- The journals from which this file was built, and how far each was read. Key: file.
CREATE TABLE journal (
    file VARCHAR,              -- <study>/<run>.jsonl
    bytes BIGINT,
    lines BIGINT,
    records BIGINT             -- of these, trusted
);

-- What could not be used of the journals, now and before earlier repairs.
CREATE TABLE damage (
    file VARCHAR,
    line BIGINT,
    why VARCHAR,
    lost BIGINT                -- records that are gone
);
