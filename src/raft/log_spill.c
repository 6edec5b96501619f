/* See log_spill.h. In the file: records one after the other, in the byte order of the machine, as
 * nobody else ever reads them. Every so often the place of one is remembered; the others are found
 * from there. */
#include "raft/log_spill.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>
#include <xxhash.h>

/* A mark for each so many bytes: what is read to find an entry that was not asked for in order. */
#define MARK_BYTES (256u << 10)
/* Given up at once at least: each time the marks are moved. */
#define TRIM_BYTES_MIN (16u << 20)
/* Entries that one write takes; each has two parts, below IOV_MAX. */
#define WRITE_ENTRIES_MAX 256u

struct log_spill_mark {
    raft_index index;
    uint64_t offset;
};

/* Before each payload, which is a multiple of 8 bytes and so lies as the core wants it. */
struct record {
    uint64_t hash; /* Of the rest and the payload */
    uint64_t index;
    uint64_t term;
    uint32_t bytes;
    uint32_t type;
};

void log_spill_open(struct log_spill *spill, const char *directory, uint64_t bytes_max,
                    uint64_t free_bytes_min)
{
    *spill = (struct log_spill){.directory = directory,
                                .bytes_max = bytes_max,
                                .free_bytes_min = free_bytes_min,
                                .fd = -1,
                                .first = 1};
}

void log_spill_drop(struct log_spill *spill)
{
    if (spill->fd >= 0)
        close(spill->fd);
    free(spill->marks);
    log_spill_open(spill, spill->directory, spill->bytes_max, spill->free_bytes_min);
}

uint64_t log_spill_bytes(const struct log_spill *spill)
{
    return spill->end - spill->begin;
}

bool log_spill_has(const struct log_spill *spill, raft_index index)
{
    return index >= spill->first && index <= spill->last;
}

static uint64_t record_hash(const struct record *record, const void *payload)
{
    uint64_t seed = XXH3_64bits(&record->index, sizeof *record - offsetof(struct record, index));

    return XXH3_64bits_withSeed(payload, record->bytes, seed);
}

/* ---- Writing ---- */

/* 0 or an errno number. */
static int file_open(struct log_spill *spill)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/spill-XXXXXX", spill->directory);

    if (n < 0 || (size_t)n >= sizeof path)
        return ENAMETOOLONG;
    spill->fd = mkostemp(path, O_CLOEXEC);
    if (spill->fd < 0)
        return errno;
    return unlink(path) == 0 ? 0 : errno;
}

/* 0 or an errno number. */
static int room_check(const struct log_spill *spill, uint64_t bytes)
{
    struct statvfs file_system;

    if (spill->end - spill->begin + bytes > spill->bytes_max)
        return EFBIG;
    if (fstatvfs(spill->fd, &file_system) != 0)
        return errno;
    return (uint64_t)file_system.f_bavail * file_system.f_frsize < spill->free_bytes_min + bytes
               ? ENOSPC
               : 0;
}

static int mark_add(struct log_spill *spill, raft_index index, uint64_t offset)
{
    if (spill->n_marks > 0 && offset < spill->marks[spill->n_marks - 1].offset + MARK_BYTES)
        return 0;
    if (spill->n_marks == spill->marks_capacity) {
        size_t capacity = spill->marks_capacity == 0 ? 64 : spill->marks_capacity * 2;
        struct log_spill_mark *grown = realloc(spill->marks, capacity * sizeof *grown);
        if (grown == NULL)
            return ENOMEM;
        spill->marks = grown;
        spill->marks_capacity = capacity;
    }
    spill->marks[spill->n_marks++] = (struct log_spill_mark){.index = index, .offset = offset};
    return 0;
}

/* 0 or an errno number. Uses the parts up. */
static int write_parts(int fd, struct iovec *parts, int n, uint64_t offset)
{
    while (n > 0) {
        ssize_t written = pwritev(fd, parts, n, (off_t)offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return errno;
        if (written == 0)
            return ENOSPC;
        offset += (uint64_t)written;
        while (n > 0 && (size_t)written >= parts->iov_len) {
            written -= (ssize_t)parts->iov_len;
            parts++;
            n--;
        }
        if (n > 0) {
            parts->iov_base = (char *)parts->iov_base + written;
            parts->iov_len -= (size_t)written;
        }
    }
    return 0;
}

/* Up to WRITE_ENTRIES_MAX of them from `from` on. 0 or an errno number. */
static int write_some(struct log_spill *spill, const struct log_cache *cache, raft_index from,
                      raft_index upto, unsigned *ret_n)
{
    struct record records[WRITE_ENTRIES_MAX];
    struct iovec parts[2 * WRITE_ENTRIES_MAX];
    uint64_t offset = spill->end;
    unsigned n = 0;
    int error = 0;

    for (; n < WRITE_ENTRIES_MAX && from + n <= upto && error == 0; n++) {
        const struct log_slot *slot = log_cache_at(cache, from + n);
        if (slot->payload.len % 8 != 0 || slot->payload.len > UINT32_MAX)
            return EINVAL;
        records[n] = (struct record){.index = from + n,
                                     .term = slot->term,
                                     .bytes = (uint32_t)slot->payload.len,
                                     .type = (uint32_t)slot->type};
        records[n].hash = record_hash(&records[n], slot->payload.base);
        parts[2 * n] = (struct iovec){.iov_base = &records[n], .iov_len = sizeof records[n]};
        parts[2 * n + 1] =
            (struct iovec){.iov_base = slot->payload.base, .iov_len = slot->payload.len};
        error = mark_add(spill, from + n, offset);
        offset += sizeof records[n] + slot->payload.len;
    }
    if (error == 0)
        error = room_check(spill, offset - spill->end);
    if (error == 0)
        error = write_parts(spill->fd, parts, (int)(2 * n), spill->end);
    if (error == 0)
        spill->end = offset;
    *ret_n = n;
    return error;
}

int log_spill_take(struct log_spill *spill, const struct log_cache *cache, raft_index from,
                   raft_index upto)
{
    int error = spill->fd < 0 ? file_open(spill) : 0;
    unsigned n = 0;

    if (spill->n_marks == 0) {
        spill->first = from;
        spill->last = from - 1;
    }
    assert(from == spill->last + 1);
    for (; error == 0 && from <= upto; from += n) {
        error = write_some(spill, cache, from, upto, &n);
        spill->last = from + n - 1;
    }
    if (error != 0)
        log_spill_drop(spill);
    return error;
}

void log_spill_trim(struct log_spill *spill, raft_index index)
{
    size_t n = 0;

    while (n + 1 < spill->n_marks && spill->marks[n + 1].index <= index)
        n++;
    if (n == 0 || spill->marks[n].offset - spill->begin < TRIM_BYTES_MIN)
        return;
    /* A file system that cannot give the space back keeps it until the file is closed. */
    (void)fallocate(spill->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)spill->begin,
                    (off_t)(spill->marks[n].offset - spill->begin));
    spill->first = spill->marks[n].index;
    spill->begin = spill->marks[n].offset;
    spill->n_marks -= n;
    memmove(spill->marks, spill->marks + n, spill->n_marks * sizeof *spill->marks);
}

/* ---- Reading ---- */

/* 0 or an errno number. */
static int read_all(int fd, void *bytes, size_t n, uint64_t offset)
{
    unsigned char *to = bytes;

    while (n > 0) {
        ssize_t got = pread(fd, to, n, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? errno : EBADMSG;
        to += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

static size_t left_in_file(const struct log_spill *spill, uint64_t offset, size_t n)
{
    return n < spill->end - offset ? n : (size_t)(spill->end - offset);
}

/* The last mark at or below the index. */
static const struct log_spill_mark *mark_for(const struct log_spill *spill, raft_index index)
{
    size_t low = 0, high = spill->n_marks;

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (spill->marks[middle].index <= index)
            low = middle;
        else
            high = middle;
    }
    return &spill->marks[low];
}

/* Where the record of that index begins. 0 or an errno number. */
static int locate(struct log_spill *spill, raft_index index, uint64_t *ret_offset)
{
    const struct log_spill_mark *mark = mark_for(spill, index);
    raft_index at = mark->index;
    size_t n, from = 0;
    char *bytes;
    int error;

    assert(log_spill_has(spill, index));
    if (index == spill->next_index) {
        *ret_offset = spill->next_offset;
        return 0;
    }
    /* The records up to the next mark begin within MARK_BYTES. */
    n = left_in_file(spill, mark->offset, MARK_BYTES + sizeof(struct record));
    bytes = malloc(n);
    if (bytes == NULL)
        return ENOMEM;
    error = read_all(spill->fd, bytes, n, mark->offset);
    while (error == 0 && at < index) {
        struct record record;
        if (n - from < sizeof record) {
            error = EBADMSG;
            break;
        }
        memcpy(&record, bytes + from, sizeof record);
        if (record.index != at || record.bytes > n - from - sizeof record)
            error = at + 1 == index && record.index == at ? 0 : EBADMSG;
        from += sizeof record + record.bytes;
        at++;
    }
    free(bytes);
    if (error == 0)
        *ret_offset = mark->offset + from;
    return error;
}

int log_spill_term(struct log_spill *spill, raft_index index, raft_term *ret_term)
{
    struct raft_entry entry;
    struct log_batch *batch;
    unsigned n;
    int error = log_spill_read(spill, index, 1, 1, &entry, &n, &batch);

    if (error != 0)
        return error;
    *ret_term = entry.term;
    log_batch_release(batch);
    return 0;
}

/* Reads the record that begins there, and what follows it within so many bytes. *ret_bytes is from
 * raft_malloc. 0 or an errno number. */
static int read_some(struct log_spill *spill, uint64_t offset, size_t bytes_max, char **ret_bytes,
                     size_t *ret_n)
{
    struct record record;
    char *bytes;
    size_t n;
    int error = read_all(spill->fd, &record, sizeof record, offset);

    if (error != 0)
        return error;
    if (record.bytes > spill->end - offset - sizeof record)
        return EBADMSG;
    n = left_in_file(spill, offset, bytes_max);
    if (n < sizeof record + record.bytes)
        n = sizeof record + record.bytes;
    bytes = raft_malloc(n);
    if (bytes == NULL)
        return ENOMEM;
    error = read_all(spill->fd, bytes, n, offset);
    if (error != 0) {
        raft_free(bytes);
        return error;
    }
    *ret_bytes = bytes;
    *ret_n = n;
    return 0;
}

int log_spill_read(struct log_spill *spill, raft_index index, size_t bytes_max, unsigned n_max,
                   struct raft_entry *entries, unsigned *ret_n, struct log_batch **ret_batch)
{
    char *bytes = NULL;
    size_t size = 0, from = 0;
    uint64_t offset = 0;
    unsigned n = 0;
    int error = locate(spill, index, &offset);

    assert(n_max > 0);
    if (error == 0)
        error = read_some(spill, offset, bytes_max, &bytes, &size);
    while (error == 0 && n < n_max && size - from >= sizeof(struct record)) {
        struct record record;
        memcpy(&record, bytes + from, sizeof record);
        if (record.index != index + n) {
            error = EBADMSG;
            break;
        }
        if (size - from - sizeof record < record.bytes || (n > 0 && record.type == RAFT_CHANGE))
            break;
        if (record.hash != record_hash(&record, bytes + from + sizeof record)) {
            error = EBADMSG;
            break;
        }
        entries[n++] =
            (struct raft_entry){.term = record.term,
                                .type = (enum raft_entry_type)record.type,
                                .buf = {.base = bytes + from + sizeof record, .len = record.bytes},
                                .batch = bytes};
        from += sizeof record + record.bytes;
        if (index + n > spill->last)
            break;
    }
    if (error == 0 && (n == 0 || (*ret_batch = log_batch_new(bytes)) == NULL))
        error = n == 0 ? EBADMSG : ENOMEM;
    if (error != 0) {
        raft_free(bytes);
        return error;
    }
    *ret_n = n;
    spill->next_index = index + n;
    spill->next_offset = offset + from;
    return 0;
}
