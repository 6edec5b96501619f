/* The hot tier: see hot.h for what it promises.
 *
 * A key's hash chooses a shard, whose lock guards its table, its policy and its byte counts; the
 * lock is held for one table operation and never while memory is copied or large blocks are freed.
 * Whatever pushes a shard over its budget (a write, an admission, a cleaning that finds the shard
 * over it) evicts clean entries, oldest in the policy's eyes first. Dirty entries are not in the
 * policy and so are never named; they may exceed the budget, and the applier is held back
 * elsewhere.
 *
 * Why a stale value never comes back. Let a reader miss at T0 (getting the ticket) and begin its
 * warm snapshot after T0. Each write of the key is either before or after T0:
 *  - before: the key was absent in hot at T0, so the entry of that write had left, and entries
 *    leave only clean, or as cleaned tombstones: the write (or a later one) was durable in the warm
 *    tier before T0, and the snapshot has it. Cleaning, therefore, need not change tickets.
 *  - after: hot_write changed the stripe's ticket under the shard's lock, and hot_admit, which
 *    compares tickets and inserts under the same lock, refuses. If the admission came first, it
 *    brought the value that was current then, and the write replaces it.
 * So what is admitted is the current version. That the snapshot begins after the miss is the
 * reader's part of the bargain.
 *
 * Only opening, and a switch of the policy, fail for want of memory. Threads: see hot.h.
 */
#include "hot.h"

#include "hot_shard.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A call that must evict many (room for one large record) lets others in after so many. */
#define EVICTIONS_PER_LOCK 64
/* So does a switch of the policy. */
#define MOVES_PER_LOCK 256

/* Part of a shard's budget that what is read seldom leaves free. */
#define SELDOM_ROOM_DIVISOR 8

/* Shards want to be many, for threads not to meet, and yet hold the largest values. Small budgets
 * split down to SHARD_BYTES_LOW; from SHARDS_ENOUGH on, shards grow to SHARD_BYTES_HIGH, which has
 * room for TIERS_VALUE_BYTES_MAX; larger budgets have more of that size. */
#define SHARD_BYTES_MIN  (16u << 10)
#define SHARD_BYTES_LOW  (2u << 20)
#define SHARD_BYTES_HIGH (32u << 20)
#define SHARDS_ENOUGH    64
#define SHARDS_MAX       65536

static void shard_lock(struct hot_shard *shard)
{
    latch_take(&shard->lock);
}

static void shard_unlock(struct hot_shard *shard)
{
    latch_leave(&shard->lock);
}

/* ------------------------------------------------------------------------------------- entries */

/* The entry of a record that enters now: it holds a reference. Lock held. */
static struct hot_entry *entry_begin(uint64_t hash, const struct tiers_record *record)
{
    struct hot_entry *entry = hot_entry_of(record);
    assert(entry->state == HOT_NEW);
    entry->node.key_hash = hash;
    entry->node.size = record->charge;
    record_retain(record);
    return entry;
}

static void entry_release(struct hot_entry *entry)
{
    tiers_record_release(hot_entry_record(entry));
}

static void entries_release(struct hot_entry *gone)
{
    while (gone != NULL) {
        struct hot_entry *next = gone->chain;
        assert(gone->state == HOT_GONE);
        entry_release(gone);
        gone = next;
    }
}

/* ---------------------------------------------------------------- changes of a shard, lock held */

static uint64_t shard_own_bytes(const struct hot_shard *shard)
{
    return sizeof(*shard) + hot_table_bytes(&shard->table) + hot_policy_bytes(&shard->policy);
}

/* What entries and records may take. */
static uint64_t shard_room_bytes(const struct hot_shard *shard)
{
    return shard->budget_bytes > shard->own_bytes ? shard->budget_bytes - shard->own_bytes : 0;
}

/* Counts what table and policy have grown to. The policy divides what they leave. */
static void shard_own_bytes_set(struct hot_shard *shard, uint64_t own_bytes)
{
    shard->bytes += own_bytes - shard->own_bytes;
    shard->own_bytes = own_bytes;
    hot_policy_resize(&shard->policy, shard_room_bytes(shard));
}

static void shard_insert(struct hot_shard *shard, struct hot_entry *entry)
{
    hot_table_insert(&shard->table, entry);
    shard->bytes += entry->node.size;
}

/* The entry has left table and policy: onto the list `gone`. */
static void entry_gone(struct hot_shard *shard, struct hot_entry *entry, struct hot_entry **gone)
{
    assert(shard->bytes >= entry->node.size);
    shard->bytes -= entry->node.size;
    entry->state = HOT_GONE;
    entry->chain = *gone;
    *gone = entry;
}

/* Takes an entry that is not in the policy out of the table. */
static void shard_drop(struct hot_shard *shard, struct hot_entry *entry, struct hot_entry **gone)
{
    hot_table_remove(&shard->table, entry);
    entry_gone(shard, entry, gone);
}

static void policy_enter(struct hot_shard *shard, struct hot_entry *entry)
{
    entry->state = HOT_CLEAN;
    shard->clean_bytes += entry->node.size;
    hot_policy_enter(&shard->policy, entry);
}

static void policy_leave(struct hot_shard *shard, struct hot_entry *entry, bool evicted)
{
    assert(entry->state == HOT_CLEAN && shard->clean_bytes >= entry->node.size);
    hot_policy_leave(&shard->policy, entry, evicted);
    shard->clean_bytes -= entry->node.size;
}

/* What no eviction can make room for: dirty entries, buckets, policy, the shard itself. */
static uint64_t shard_fixed_bytes(const struct hot_shard *shard)
{
    return shard->bytes - shard->clean_bytes;
}

/* Evicts until the budget is kept or nothing is evictable; true: it stopped before, for the sake of
 * those who wait for the lock. */
static bool shard_evict(struct hot_shard *shard, struct hot_entry **gone)
{
    for (unsigned i = 0;; i++) {
        uint64_t own_bytes = shard_own_bytes(shard);
        if (own_bytes != shard->own_bytes)
            shard_own_bytes_set(shard, own_bytes);
        if (shard->bytes <= shard->budget_bytes)
            return false;
        struct hot_entry *victim = hot_policy_victim(&shard->policy);
        if (victim == NULL)
            return false;
        if (i == EVICTIONS_PER_LOCK)
            return true;
        policy_leave(shard, victim, true);
        shard_drop(shard, victim, gone);
        shard->evictions++;
    }
    return false;
}

/* Lets the policy have an entry of the table. Room for it is made of others first: it must not be
 * its own victim. */
static void shard_make_clean(struct hot_shard *shard, struct hot_entry *entry,
                             struct hot_entry **gone)
{
    hot_policy_prepare(&shard->policy, entry);
    (void)shard_evict(shard, gone);
    policy_enter(shard, entry);
}

/* Ends a critical section that changed the shard: back to the budget, unlock, and only then free
 * what left, together with what is on the list `gone` already. */
static void shard_settle(struct hot_shard *shard, struct hot_entry *gone)
{
    while (shard_evict(shard, &gone)) {
        shard_unlock(shard);
        entries_release(gone);
        gone = NULL;
        shard_lock(shard);
    }
    shard_unlock(shard);
    entries_release(gone);
}

/* --------------------------------------------------------------------------- opening and closing
 */

static size_t shards_for(uint64_t bytes)
{
    uint64_t wanted = bytes / SHARD_BYTES_LOW;
    size_t n = 1;

    if (wanted > SHARDS_ENOUGH)
        wanted = SHARDS_ENOUGH;
    if (wanted < bytes / SHARD_BYTES_HIGH)
        wanted = bytes / SHARD_BYTES_HIGH;
    while (2 * n <= wanted && n < SHARDS_MAX)
        n *= 2;
    return n;
}

static int shard_open(struct hot_shard *shard, const struct policy_type *policy,
                      uint64_t budget_bytes)
{
    memset(shard, 0, sizeof(*shard));
    int result = hot_table_open(&shard->table);
    if (result != 0)
        return result;
    result = hot_policy_open(&shard->policy, policy, budget_bytes);
    if (result != 0) {
        hot_table_close(&shard->table, entry_release);
        return result;
    }
    shard->budget_bytes = budget_bytes;
    shard_own_bytes_set(shard, shard_own_bytes(shard));
    return 0;
}

static void shard_close(struct hot_shard *shard)
{
    hot_policy_close(&shard->policy);
    hot_table_close(&shard->table, entry_release);
}

static uint64_t budget_of_shards(const struct hot *hot, size_t n_shards)
{
    return (hot->budget_bytes - sizeof(*hot) - atomic_load(&hot->reserved_bytes)) / n_shards;
}

int hot_open(const struct hot_options *options, struct hot **ret_hot)
{
    size_t n_shards = options->shards != 0 ? options->shards : shards_for(options->bytes);

    if ((n_shards & (n_shards - 1)) != 0 || n_shards > SHARDS_MAX ||
        options->bytes / n_shards < SHARD_BYTES_MIN)
        return TIERS_INVALID;
    struct hot *hot = calloc(1, sizeof(*hot));
    if (hot == NULL)
        return TIERS_NO_MEMORY;
    hot->shards = aligned_alloc(_Alignof(struct hot_shard), n_shards * sizeof(struct hot_shard));
    if (hot->shards == NULL) {
        free(hot);
        return TIERS_NO_MEMORY;
    }
    hot->budget_bytes = options->bytes;
    uint64_t shard_bytes = budget_of_shards(hot, n_shards);
    while (hot->n_shards < n_shards) {
        int result = shard_open(&hot->shards[hot->n_shards], options->policy, shard_bytes);
        if (result != 0) {
            hot_close(hot);
            return result;
        }
        hot->n_shards++;
    }
    *ret_hot = hot;
    return 0;
}

void hot_close(struct hot *hot)
{
    for (size_t i = 0; i < hot->n_shards; i++)
        shard_close(&hot->shards[i]);
    free(hot->shards);
    free(hot);
}

/* ------------------------------------------------------------------------------------ operations
 */

enum hot_found hot_get(struct hot *hot, uint64_t hash, enum tiers_space space, const void *key,
                       size_t key_len, const struct tiers_record **ret_record, uint64_t *ret_ticket)
{
    return hot_get_inline(hot, hash, space, key, key_len, ret_record, ret_ticket);
}

void hot_prefetch(struct hot *hot, const uint64_t *hashes, size_t n)
{
    assert(n <= TIERS_PREFETCH_MAX);
    for (size_t i = 0; i < n; i++)
        hot_table_prefetch_bucket(&hot_shard_of(hot, hashes[i])->table, hashes[i]);
    for (size_t i = 0; i < n; i++)
        hot_table_prefetch_entry(&hot_shard_of(hot, hashes[i])->table, hashes[i]);
}

enum hot_found hot_peek(struct hot *hot, uint64_t hash, enum tiers_space space, const void *key,
                        size_t key_len, const struct tiers_record **ret_record)
{
    struct hot_shard *shard = hot_shard_of(hot, hash);
    enum hot_found found = HOT_MISS;

    shard_lock(shard);
    struct hot_entry *entry = hot_table_find(&shard->table, hash, space, key, key_len);
    if (entry != NULL) {
        *ret_record = hot_entry_record(entry);
        record_retain(*ret_record);
        found = (*ret_record)->tombstone ? HOT_TOMBSTONE : HOT_HIT;
    }
    shard_unlock(shard);
    return found;
}

/* Puts `by` in place of an entry of the same key, which goes onto the list `gone`. */
static void shard_replace(struct hot_shard *shard, struct hot_entry *entry, struct hot_entry *by,
                          struct hot_entry **gone)
{
    by->was_clean = entry->was_clean || entry->state == HOT_CLEAN;
    if (entry->state == HOT_CLEAN)
        policy_leave(shard, entry, false);
    hot_table_replace(&shard->table, entry, by);
    shard->bytes += by->node.size;
    entry_gone(shard, entry, gone);
}

void hot_write(struct hot *hot, uint64_t hash, const struct tiers_record *record)
{
    struct hot_shard *shard = hot_shard_of(hot, hash);
    struct hot_entry *gone = NULL;

    shard_lock(shard);
    struct hot_entry *before = hot_table_find(&shard->table, hash, (enum tiers_space)record->space,
                                              tiers_record_key(record), record->key_len);
    struct hot_entry *entry = entry_begin(hash, record);
    if (before != NULL)
        shard_replace(shard, before, entry, &gone);
    else
        shard_insert(shard, entry);
    entry->state = HOT_DIRTY;
    ++*hot_ticket_of(shard, hash);
    shard_settle(shard, gone);
}

/* Whether the shard takes a clean entry of this size beside `used` bytes. */
static bool shard_has_room(const struct hot_shard *shard, uint64_t used, uint32_t size)
{
    return used + size <= shard->budget_bytes && hot_policy_admits(&shard->policy, size);
}

/* What others that are clean need not make room for finds `shard_bytes` used, and this much more.
 */
static uint64_t used_for_seldom(const struct hot_shard *shard, uint64_t shard_bytes)
{
    return shard_bytes + shard->budget_bytes / SELDOM_ROOM_DIVISOR;
}

/* Whether the shard takes a new entry of this size. Were it inserted without room beside the dirty
 * entries, it would evict all others and then itself. */
static bool shard_admits(const struct hot_shard *shard, uint32_t size, bool is_seldom)
{
    uint64_t used = is_seldom ? used_for_seldom(shard, shard->bytes) : shard_fixed_bytes(shard);

    return shard_has_room(shard, used, size);
}

/* Whether a dirty entry stays when it becomes clean: the bytes of the shard hold its own. */
static bool shard_keeps(const struct hot_shard *shard, const struct hot_entry *entry,
                        bool is_seldom)
{
    uint32_t size = entry->node.size;
    uint64_t used = is_seldom && !entry->was_clean ? used_for_seldom(shard, shard->bytes - size)
                                                   : shard_fixed_bytes(shard) - size;

    return shard_has_room(shard, used, size);
}

bool hot_admit(struct hot *hot, uint64_t hash, const struct tiers_record *record, uint64_t ticket,
               bool is_seldom)
{
    struct hot_shard *shard = hot_shard_of(hot, hash);
    struct hot_entry *gone = NULL;

    assert(!record->tombstone);
    shard_lock(shard);
    bool admitted = ticket == *hot_ticket_of(shard, hash) &&
                    hot_entry_of(record)->state == HOT_NEW &&
                    shard_admits(shard, record->charge, is_seldom) &&
                    hot_table_find(&shard->table, hash, (enum tiers_space)record->space,
                                   tiers_record_key(record), record->key_len) == NULL;
    if (admitted) {
        struct hot_entry *entry = entry_begin(hash, record);
        shard_insert(shard, entry);
        shard_make_clean(shard, entry, &gone);
    }
    shard_settle(shard, gone);
    return admitted;
}

void hot_clean(struct hot *hot, uint64_t hash, const struct tiers_record *record, bool is_seldom)
{
    struct hot_shard *shard = hot_shard_of(hot, hash);
    struct hot_entry *gone = NULL;

    shard_lock(shard);
    struct hot_entry *entry = hot_table_find(&shard->table, hash, (enum tiers_space)record->space,
                                             tiers_record_key(record), record->key_len);
    if (entry == NULL || entry != hot_entry_of(record) || entry->state != HOT_DIRTY) {
        shard_unlock(shard);
        return;
    }
    if (record->tombstone) {
        shard_drop(shard, entry, &gone);
    } else if (!shard_keeps(shard, entry, is_seldom)) {
        shard_drop(shard, entry, &gone);
        shard->evictions++;
    } else {
        shard_make_clean(shard, entry, &gone);
    }
    shard_settle(shard, gone);
}

void hot_reserve(struct hot *hot, uint64_t bytes)
{
    assert(bytes <= hot->budget_bytes / 2);
    atomic_store(&hot->reserved_bytes, bytes);
    for (size_t i = 0; i < hot->n_shards; i++) {
        struct hot_shard *shard = &hot->shards[i];
        shard_lock(shard);
        shard->budget_bytes = budget_of_shards(hot, hot->n_shards);
        shard_own_bytes_set(shard, shard_own_bytes(shard));
        shard_settle(shard, NULL);
    }
}

static void shard_switch_end(struct hot_shard *shard)
{
    bool more = true;

    while (more) {
        shard_lock(shard);
        more = hot_policy_move(&shard->policy, MOVES_PER_LOCK);
        shard_settle(shard, NULL);
    }
}

int hot_policy_switch(struct hot *hot, const struct policy_type *type)
{
    size_t n = 0;
    int result = 0;

    /* All get their new instance, or none does: memory fails before the first entry has moved. */
    for (; n < hot->n_shards && result == 0; n++) {
        struct hot_shard *shard = &hot->shards[n];
        shard_lock(shard);
        result = hot_policy_begin(&shard->policy, type, shard_room_bytes(shard));
        shard_settle(shard, NULL);
    }
    if (result != 0) {
        for (size_t i = 0; i + 1 < n; i++) {
            shard_lock(&hot->shards[i]);
            hot_policy_revert(&hot->shards[i].policy);
            shard_unlock(&hot->shards[i]);
        }
    }
    for (size_t i = 0; i < hot->n_shards; i++)
        shard_switch_end(&hot->shards[i]);
    return result;
}

void hot_stats(struct hot *hot, struct hot_stats *ret_stats)
{
    struct hot_stats stats = {.bytes = sizeof(*hot) + atomic_load(&hot->reserved_bytes)};

    for (size_t i = 0; i < hot->n_shards; i++) {
        struct hot_shard *shard = &hot->shards[i];
        shard_lock(shard);
        stats.bytes += shard->bytes;
        stats.keys += shard->table.n;
        stats.evictions += shard->evictions;
        shard_unlock(shard);
    }
    *ret_stats = stats;
}
