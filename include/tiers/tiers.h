/* libtiers: an embeddable key-value engine whose state is split over three media.
 *
 *   hot    memory         values of the hottest keys, and every write that is not yet flushed
 *   warm   LMDB on SSD    every key with its metadata; the value inline, or a pointer to a cold
 * record cold   files on HDD   values that are seldom read, in append-only segments
 *
 * The engine is written by one applier (a replicated log): it hands over mutations in log order,
 * each group under the index of its log entry. What was applied is visible to readers at once and
 * becomes durable later, in whole groups: after a crash the engine is at some index not above the
 * last applied one (tiers_position after tiers_open) and the log is replayed from there.
 *
 * Threads. One thread at a time may call the "applier" functions. Each tiers_reader belongs to one
 * thread. Everything else may be called from any thread. The engine runs background
 * threads of its own, the mover, which does the work, and the observer, which watches the load; it
 * never calls back on a caller's thread except from the function that says so.
 *
 * Errors. Functions return 0 or a negative TIERS_ code. ret_ parameters are untouched on failure.
 * The library never prints; it reports events through tiers_options.
 */
#ifndef TIERS_TIERS_H
#define TIERS_TIERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TIERS_KEY_BYTES_MAX   511
#define TIERS_VALUE_BYTES_MAX (16u << 20)

#define TIERS_ERRORS(X)                                                                            \
    X(TIERS_NOT_FOUND, -1, "no such key")                                                          \
    X(TIERS_PENDING, -2, "the answer comes later")                                                 \
    X(TIERS_BUSY, -3, "too many operations are waiting")                                           \
    X(TIERS_INVALID, -4, "an argument is out of its range")                                        \
    X(TIERS_NO_MEMORY, -5, "out of memory")                                                        \
    X(TIERS_NO_SPACE, -6, "no space left on the device")                                           \
    X(TIERS_IO, -7, "input or output failed")                                                      \
    X(TIERS_CORRUPT, -8, "stored data is damaged")                                                 \
    X(TIERS_VERSION, -9, "stored data has a format this program does not know")                    \
    X(TIERS_LOCKED, -10, "another process uses the directory")                                     \
    X(TIERS_ACCESS, -11, "permission denied")                                                      \
    X(TIERS_STOPPED, -12, "the engine stopped after a failure")                                    \
    X(TIERS_STALE, -13, "the item has moved or changed since it was looked up")

enum tiers_error {
#define X(name, code, message) name = code,
    TIERS_ERRORS(X)
#undef X
};

/* The message of a TIERS_ code, or of 0. Never NULL; a constant string. */
const char *tiers_strerror(int error);

/* Keys live in one of two separate spaces. User keys are what clients name. System keys hold the
 * replicated bookkeeping (members, cluster identity); no client request reaches them. */
enum tiers_space { TIERS_SPACE_USER = 0, TIERS_SPACE_SYSTEM = 1 };

/* What a key carries beside its value. All of it is part of the replicated state. */
struct tiers_meta {
    uint64_t create_revision; /* Revision of the mutation that created the key */
    uint64_t mod_revision;    /* Revision of the last mutation; the ETag */
    uint64_t version;         /* 1 at creation, +1 with each later put */
    uint64_t flags;           /* The client's own */
    uint64_t expires_ms;      /* Unix time in milliseconds; 0: never */
};

/* One version of one key, in memory. Immutable and reference-counted: a reader may hold it as long
 * as it likes without blocking writers or eviction. `tombstone` records stand for deleted keys and
 * never reach callers. In `bytes` stand key, value and, aligned, a struct tiers_record_tail: what a
 * look-up compares lies together, and what only the finder wants to know behind it. */
struct tiers_record {
    _Atomic uint32_t references;
    uint32_t value_len;
    uint16_t key_len;
    uint8_t space; /* enum tiers_space */
    bool tombstone;
    uint32_t charge; /* Bytes of memory this record costs, allocator overhead included */
    unsigned char bytes[];
};

struct tiers_record_tail {
    uint64_t digest; /* This record's share of the state hash */
    struct tiers_meta meta;
};

static inline const void *tiers_record_key(const struct tiers_record *record)
{
    return record->bytes;
}

static inline const void *tiers_record_value(const struct tiers_record *record)
{
    return record->bytes + record->key_len;
}

static inline const struct tiers_record_tail *tiers_record_tail(const struct tiers_record *record)
{
    const size_t align = _Alignof(struct tiers_record_tail);
    size_t begin = ((size_t)record->key_len + record->value_len + align - 1) / align * align;
    return (const struct tiers_record_tail *)(const void *)(record->bytes + begin);
}

static inline const struct tiers_meta *tiers_record_meta(const struct tiers_record *record)
{
    return &tiers_record_tail(record)->meta;
}

static inline uint64_t tiers_record_digest(const struct tiers_record *record)
{
    return tiers_record_tail(record)->digest;
}

/* Any thread. `retain` needs a reference that the caller already owns or borrows safely. */
void tiers_record_retain(const struct tiers_record *record);
void tiers_record_release(const struct tiers_record *record);

/* ------------------------------------------------------------------------- opening and closing */

enum tiers_event_level { TIERS_EVENT_INFO, TIERS_EVENT_WARNING, TIERS_EVENT_ERROR };

struct tiers_options {
    const char *warm_dir; /* Created if absent. Both must outlive tiers_open only. */
    const char *cold_dir;
    uint64_t hot_bytes;          /* Memory for records, table and policy together. At least 1 MiB */
    uint64_t warm_bytes;         /* Aimed-at size of the LMDB file's used pages. At least 1 MiB */
    uint64_t warm_map_bytes;     /* LMDB's address range, the hard limit of the file. 0: default */
    uint64_t cold_segment_bytes; /* A segment is sealed beyond this size. 0: default */
    /* Gathered for a flush are at most so much, or keys that change about 4096 pages of the index;
     * it begins at half of either. 0: default */
    uint64_t flush_bytes;
    uint64_t dirty_bytes_max; /* Above it tiers_apply_ready is false. 0: half of hot_bytes */
    uint32_t
        flush_interval_ms;   /* A flush begins when a write has been dirty this long. 0: default */
    uint32_t read_depth_max; /* Reads under way per tiers_reader. 0: default */
    /* Threads that look up the warm tier, for all readers together, where its pages are not in
     * memory; made when they are first needed. 0: default, 32. At most 256. */
    uint32_t warm_reader_threads;
    bool direct_io;     /* Bypass the page cache for cold segments where the FS allows */
    const char *policy; /* Eviction policy of the hot tier; NULL: "lru". "auto": "lru" first, then
                         * whichever the curves (tiers_curve) show to be the best */
    bool curve_off;     /* Sample nothing: no curves, and no policy "auto" */

    /* Promotion gets more eager while more than so many of a thousand reads reach the cold tier. 0:
     * default, 50. */
    uint32_t cold_read_permille_max;

    /* Limits on background work at the cold disk, in bytes per second; 0: none. Demotion and
     * compaction together; it does not hold while the warm tier is over its budget by an eighth. */
    uint64_t cold_write_bytes_per_second_max;
    uint64_t compact_bytes_per_second_max; /* Compaction's reads and writes */
    uint64_t scrub_bytes_per_second_max;
    /* All cold segments, and the file of the warm tier, are verified once in this time; 0: never */
    uint64_t scrub_interval_ms;
    /* Of that file so much is verified at opening; a larger one in the background, first of all. 0:
     * default, 256 MiB */
    uint64_t warm_check_bytes_max;

    /* All callbacks: from the mover thread (or tiers_open/tiers_close), must not block and must not
     * call back into the engine's applier functions. Any may be NULL. */
    void *context;
    /* One notable event: a stable lower-case name and a short human sentence. Strings are borrowed.
     */
    void (*on_event)(void *context, enum tiers_event_level level, const char *event,
                     const char *detail);
    /* Everything up to `index` is durable. */
    void (*on_durable)(void *context, uint64_t index);
    /* tiers_apply_ready has turned true again. */
    void (*on_ready)(void *context);
    /* The engine stopped for good (failed fsync, damaged index): the process should end. Once. */
    void (*on_failed)(void *context, int error, const char *detail);
    /* Milliseconds of a monotonic clock; NULL: CLOCK_MONOTONIC. Any thread. */
    uint64_t (*now_ms)(void *context);
};

struct tiers;

/* Sets every field to its default (0 or NULL means "the default" for those that say so). */
void tiers_options_init(struct tiers_options *options);

/* Opens or creates the state and starts the mover. On failure `error_text` (if not NULL, of
 * `error_text_size` bytes) gets one sentence that names the file and the cause. */
int tiers_open(const struct tiers_options *options, struct tiers **ret_tiers, char *error_text,
               size_t error_text_size);

/* Flushes what was applied, stops the mover, frees everything. All readers must be closed before;
 * records still referenced stay valid. Returns the flush's result. */
int tiers_close(struct tiers *tiers);

/* ----------------------------------------------------------------------------- applier functions
 */

/* Applies happen in groups: begin, any number of mutations and lookups, end. `index` grows
 * strictly. A group is the unit of durability: all of it or nothing is there after a crash. */
void tiers_apply_begin(struct tiers *tiers, uint64_t index);
void tiers_apply_end(struct tiers *tiers);

/* Takes the next revision of the store. Inside a group. */
uint64_t tiers_revision_next(struct tiers *tiers);

/* Inside a group. `revision` comes from tiers_revision_next; several keys may share it (they then
 * form one mutation). Key and value are copied. Fails only with TIERS_INVALID (sizes),
 * TIERS_NO_MEMORY or an error of the warm tier; after a failure the engine must be closed. */
int tiers_put(struct tiers *tiers, enum tiers_space space, const void *key, size_t key_len,
              const void *value, size_t value_len, uint64_t flags, uint64_t expires_ms,
              uint64_t revision);

/* As tiers_put. Deleting an absent key is no error and changes nothing; *ret_existed tells. */
int tiers_delete(struct tiers *tiers, enum tiers_space space, const void *key, size_t key_len,
                 uint64_t revision, bool *ret_existed);

/* The metadata as of the last mutation, inside or outside a group. 0 or TIERS_NOT_FOUND. */
int tiers_lookup_meta(struct tiers *tiers, enum tiers_space space, const void *key, size_t key_len,
                      struct tiers_meta *ret_meta);

/* False while so much is dirty, or the disk so full, that the applier should pause until on_ready.
 * Applying nevertheless is safe, only costs memory. Any thread. */
bool tiers_apply_ready(struct tiers *tiers);

/* Whether that is because the last flush found the disk or the map full. Any thread. */
bool tiers_no_space(const struct tiers *tiers);

/* --------------------------------------------------------------------------------------- hints */

#define TIERS_PREFETCH_MAX 16

struct tiers_key {
    const void *bytes;
    size_t len;
};

/* These keys are about to be put, deleted or read: what the hot tier has of them is brought into
 * the processor's cache, for all of them at a time instead of one after the other. Changes nothing
 * else. Any thread, also inside a group; n <= TIERS_PREFETCH_MAX. */
void tiers_prefetch(struct tiers *tiers, enum tiers_space space, const struct tiers_key *keys,
                    size_t n);

/* ------------------------------------------------------------------------------- position, flush
 */

struct tiers_position {
    uint64_t index;      /* Of the last group that is included */
    uint64_t revision;   /* Last revision taken */
    uint64_t state_hash; /* Sum of the digests of all live keys: equal states have equal hashes */
};

/* As of the last complete group / of what would survive a crash now. Any thread. */
void tiers_position_applied(struct tiers *tiers, struct tiers_position *ret_position);
void tiers_position_durable(struct tiers *tiers, struct tiers_position *ret_position);

/* Makes everything applied before the call durable; blocks. Any thread but the applier's inside a
 * group. */
int tiers_flush(struct tiers *tiers);
/* Has the next flush begin now, whatever flush_interval_ms and flush_bytes are, and does not wait
 * for it. After a flush that failed it comes when that is tried again. Any thread. */
void tiers_flush_soon(struct tiers *tiers);

/* ---------------------------------------------------------------------------------------- reading
 */

/* A reader serves one thread: it owns an LMDB read transaction slot, an io_uring and an eventfd. */
struct tiers_reader;

int tiers_reader_open(struct tiers *tiers, struct tiers_reader **ret_reader);

/* Cancels what is under way (done is not called), waits for its I/O, frees. */
void tiers_reader_close(struct tiers_reader *reader);

/* Becomes readable when completions wait. Owned by the reader. */
int tiers_reader_fd(const struct tiers_reader *reader);

/* One read under way. The memory is the caller's and must stay until `done` ran or the read was
 * cancelled. `record` is NULL unless status is 0; the callee owns the reference it gets. */
struct tiers_read {
    void (*done)(struct tiers_read *read, int status, const struct tiers_record *record);
    void *owner;      /* The caller's */
    void *operation_; /* The engine's */
};

/* 0: *ret_record holds a reference. TIERS_NOT_FOUND. TIERS_PENDING: `read->done` will run inside a
 * later tiers_reader_complete of this reader. TIERS_BUSY, also as the status of `done`:
 * read_depth_max reads are under way, or the cold ones among them hold so many bytes (64 MiB) that
 * there is no room for this one beside them, or its record moved again and again while it was
 * looked up. It may be asked for again once another read has completed, or at once if none is under
 * way. Other errors: as named. Counts as an access for the statistics and may promote the key. */
int tiers_reader_get(struct tiers_reader *reader, enum tiers_space space, const void *key,
                     size_t key_len, struct tiers_read *read,
                     const struct tiers_record **ret_record);

/* Runs `done` of reads that have completed; while there are more of them the fd stays readable, so
 * that those who wait for these can ask for the next meanwhile. Call when the fd is readable. */
void tiers_reader_complete(struct tiers_reader *reader);

/* After it returns, `done` is not called and `read` may be freed. `read` must be under way. */
void tiers_reader_cancel(struct tiers_reader *reader, struct tiers_read *read);

/* The tier that answered the reader's last successful read: valid once tiers_reader_get has
 * returned 0, and inside `done` with status 0. */
enum tiers_tier { TIERS_TIER_HOT, TIERS_TIER_WARM, TIERS_TIER_COLD };
enum tiers_tier tiers_reader_tier(const struct tiers_reader *reader);

/* Waits for the answer instead: for tests and tools. Same results, never TIERS_PENDING. */
int tiers_reader_get_wait(struct tiers_reader *reader, enum tiers_space space, const void *key,
                          size_t key_len, const struct tiers_record **ret_record);

/* Calls `each` for every key of a space that is durable or dirty, in unspecified order, cold values
 * included. For start-up and tools: blocks, reads disks. Stops when `each` returns non-zero and
 * returns that. Must not run concurrently with the applier. */
int tiers_each(struct tiers *tiers, enum tiers_space space,
               int (*each)(void *context, const struct tiers_record *record), void *context);

/* ------------------------------------------------------------------------------------- statistics
 */

#define TIERS_STATS(X)                                                                             \
    X(hot_bytes, gauge, "Bytes of memory the hot tier uses, all overhead counted")                 \
    X(hot_keys, gauge, "Records in the hot tier")                                                  \
    X(dirty_bytes, gauge, "Bytes of applied writes that are not yet flushed")                      \
    X(warm_used_bytes, gauge, "Bytes of used pages in the LMDB file")                              \
    X(warm_keys, gauge, "Keys in the warm index, those with cold values included")                 \
    X(cold_keys, gauge, "Keys whose value lies in a cold segment")                                 \
    X(cold_bytes, gauge, "Bytes of all cold segments")                                             \
    X(cold_live_bytes, gauge, "Bytes of cold records that a key still points to")                  \
    X(cold_segments, gauge, "Cold segment files")                                                  \
    X(hits_hot, counter, "Reads answered by the hot tier")                                         \
    X(hits_warm, counter, "Reads answered by the warm tier")                                       \
    X(hits_cold, counter, "Reads answered by the cold tier")                                       \
    X(misses, counter, "Reads of absent keys")                                                     \
    X(evictions, counter, "Clean records evicted from the hot tier")                               \
    X(warm_reads_pooled, counter,                                                                  \
      "Look-ups in the warm tier left to a reader thread: not in memory")                          \
    X(flushes, counter, "Flush transactions")                                                      \
    X(flushed_keys, counter, "Keys written by flushes")                                            \
    X(flushed_bytes, counter, "Bytes of keys and values written by flushes")                       \
    X(demoted_keys, counter, "Values moved from warm to cold")                                     \
    X(demoted_bytes, counter, "Bytes of values moved from warm to cold")                           \
    X(promoted_warm_keys, counter, "Values moved from cold to warm")                               \
    X(promoted_hot_keys, counter, "Records brought into the hot tier by reads")                    \
    X(promoted_warm_bytes, counter, "Bytes of values moved from cold to warm")                     \
    X(promotions_refused, counter,                                                                 \
      "Cold values not moved: moving had used up its share, or warm is full of its index")         \
    X(promotion_eased, counter, "Times that promotion to warm asked for less heat")                \
    X(promotion_tightened, counter, "Times that promotion to warm asked for more heat")            \
    X(admission_eased, counter, "Times that the full hot tier asked for less heat")                \
    X(admission_tightened, counter, "Times that the full hot tier asked for more heat")            \
    X(windows_few_reads, counter, "Windows of a second with too few reads to judge by")            \
    X(windows_cold_share_high, counter, "Windows in which too many reads reached the cold tier")   \
    X(windows_cold_share_low, counter, "Windows in which few reads reached the cold tier")         \
    X(windows_cold_share_held, counter, "Windows in which the cold share was near its target")     \
    X(windows_warm_hotter, counter,                                                                \
      "Windows in which too many reads reached the cold tier, but warm held nothing colder")       \
    X(windows_hot_calm, counter, "Windows in which little was pushed out of the hot tier")         \
    X(windows_hot_steady, counter, "Windows in which the hot tier held the balance")               \
    X(windows_hot_crowded, counter, "Windows in which records pushed each other out of hot")       \
    X(compacted_segments, counter, "Segments rewritten and deleted")                               \
    X(compacted_bytes, counter, "Bytes of live records rewritten by compaction")                   \
    X(cold_written_bytes, counter, "Bytes of records appended to cold segments")                   \
    X(cold_dictionaries, counter, "Dictionaries trained from small values and kept")               \
    X(scrubbed_segments, counter, "Cold segments that the scrubber found intact")                  \
    X(scrubbed_bytes, counter, "Bytes of cold segments read by the scrubber")                      \
    X(scrub_damages, counter, "Cold segments in which the scrubber found damage")                  \
    X(warm_scrubs, counter, "Times that the scrubber found the whole LMDB file intact")            \
    X(warm_scrubbed_bytes, counter, "Bytes of the LMDB file read by the scrubber")                 \
    X(policy_switches, counter, "Times that the policy of the hot tier was switched")              \
    X(samples, counter, "Accesses of sampled keys that were replayed for the curves")              \
    X(samples_dropped, counter, "Accesses of sampled keys that came too fast")                     \
    X(checksum_errors, counter, "Records that failed their checksum")

struct tiers_stats {
#define X(name, kind, help) uint64_t name;
    TIERS_STATS(X)
#undef X
};

/* Any thread; each figure is exact at some moment of the call. */
void tiers_stats(struct tiers *tiers, struct tiers_stats *ret_stats);

/* What the share of reads answered by the hot tier would be with more or less memory and under
 * other policies: measured while serving, on a sample of the keys that is replayed against small
 * caches of keys alone. It follows the load of the last minute or so. */

#define TIERS_CURVE_POINTS       8
#define TIERS_CURVE_POLICIES_MAX 16

struct tiers_curve_point {
    uint64_t hot_bytes;
    double sample_rate; /* Share of the keys that is looked at for this size */
    double reads;       /* In view, older ones fading; 0: nothing is known yet */
};

struct tiers_curve_policy {
    const char *name; /* A constant string */
    double hit_rate[TIERS_CURVE_POINTS];
};

struct tiers_curve {
    struct tiers_curve_point points[TIERS_CURVE_POINTS]; /* By ascending hot_bytes */
    size_t point_now;                                    /* The one of the engine's hot_bytes */
    size_t n_policies;
    struct tiers_curve_policy policies[TIERS_CURVE_POLICIES_MAX];
    uint64_t keys_tracked;    /* In all small caches together */
    uint64_t samples;         /* Accesses looked at so far */
    uint64_t samples_dropped; /* Lost because they came too fast */
};

/* Any thread. Reads count if their key was there. */
void tiers_curve(struct tiers *tiers, struct tiers_curve *ret_curve);

/* Where the data lies, who answers the reads, and what was decided about it. */

#define TIERS_PLACEMENT_WINDOWS 3

struct tiers_placement_tier {
    uint64_t bytes;
    uint64_t budget_bytes; /* 0: the disk's */
    uint64_t keys;         /* Whose value is in this tier; for hot, beside the one below */
};

struct tiers_placement_hits {
    uint64_t span_ms; /* The time in which these reads came */
    uint64_t hot;
    uint64_t warm;
    uint64_t cold;
    uint64_t absent; /* There was no such key */
};

struct tiers_placement_policy {
    const char *name; /* The one in use. Texts are constant strings */
    bool automatic;
    const char *reason; /* Why this one, as of the last decision */
    const char *best;   /* The one predicted to be the best by then */
    double gain;        /* And by how much its hit rate is higher */
    uint64_t in_use_ms; /* Since opening or the last switch */
    uint64_t switches;
};

/* What the controller of promotions last decided; it steps once a second. */
struct tiers_placement_control {
    uint32_t cold_read_permille_max; /* The target */
    const char *reason;              /* Of the last step; a constant string */
    const char *admit_reason;        /* The same of admit_heat_min */
    uint64_t changed_ms;             /* Since either threshold last changed */
    unsigned admit_heat_min;         /* Reads lately of what enters a full hot tier */
    uint64_t promote_us_max;         /* Time of the disks that promotions may take in a second */
};

struct tiers_placement {
    struct tiers_placement_tier hot;
    struct tiers_placement_tier warm;
    struct tiers_placement_tier cold;
    struct tiers_placement_hits total; /* Since opening */
    /* The last 10 s, minute, and five minutes, or less if it was opened since. */
    struct tiers_placement_hits windows[TIERS_PLACEMENT_WINDOWS];
    struct tiers_placement_policy policy;
    struct tiers_placement_control control;
    unsigned promote_heat_min; /* Cold values read at least so often lately return to warm */
    unsigned demote_heat_max;  /* Those read no more often leave it while it is over its budget */
    bool demoting;             /* It is, or has not come down far enough since */
    bool hot_has_room;         /* What is read once only is kept in memory, too */
};

/* Any thread. */
void tiers_placement(struct tiers *tiers, struct tiers_placement *ret_placement);

#endif
