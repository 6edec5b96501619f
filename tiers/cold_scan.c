/* Scanning a whole segment, for compaction and scrubbing: see cold_scan_open in cold.h.
 *
 * A window of the file is kept in memory and moves forward; it grows only for a record that is
 * larger. What comes behind it is read ahead, while the records in it are looked at. A record that
 * begins with a zero magic is the padding at the end of a sync: it must be zeros up to the next
 * block. Anything else that is no intact record is damage, and so is a block that the disk cannot
 * read. The scan then looks for the next place at which an intact record begins: behind the damaged
 * one if its header still tells where that is, else at any multiple of COLD_RECORD_ALIGN, where the
 * checksum tells a record from other bytes.
 *
 * A read ahead that fails is forgotten: the same bytes are then read again when they are needed.
 *
 * The caller may append to the cold tier meanwhile: its writes overlap with the scan. Mover thread.
 */
#include "cold_internal.h"

#include "little_endian.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

/* With more unreadable blocks than this the disk is taken to be gone. */
#define UNREADABLE_BLOCKS_MAX 256

/* The window holds what is left of one read and all of the next. It and what is read ahead lie in
 * one huge page (COLD_HUGE_PAGE_BYTES). */
#define READ_BYTES   (COLD_BUFFER_BYTES / 2)
#define WINDOW_BYTES (2 * READ_BYTES)
#define MEMORY_BYTES (WINDOW_BYTES + COLD_SCAN_READS_AHEAD * READ_BYTES)
_Static_assert(MEMORY_BYTES % COLD_HUGE_PAGE_BYTES == 0, "for aligned_alloc");

/* What follows the window, in part. */
struct ahead {
    unsigned char *bytes; /* READ_BYTES */
    struct uring_op op;
    bool begun; /* op is under way, or its result was not looked at */
};

struct cold_scan {
    struct cold *cold;
    struct cold_file *file;
    uint64_t file_bytes;
    unsigned char *memory; /* Of the window, unless it has grown, and of the reads ahead */
    unsigned char *bytes;  /* The window; aligned to blocks */
    size_t capacity;
    uint64_t offset; /* Of bytes[0] in the file; a multiple of blocks */
    size_t length;
    uint64_t position;    /* Of the next record; while `end` is set, of the one that was found */
    uint64_t end;         /* Of that one, as its header says; 0: none */
    uint64_t resume;      /* After damage: the earliest place of the next record; else 0 */
    uint64_t resume_hint; /* The likely one, or 0 */
    unsigned unreadable;  /* Blocks */
    bool cut;             /* The file is shorter than it should be, and nobody was told yet */
    uint64_t bytes_read;
    bool reads_ahead;
    struct ahead ahead[COLD_SCAN_READS_AHEAD]; /* In turns */
    unsigned ahead_first;                      /* The one that follows the window first */
};

/* ---------------------------------------------------------------------------------- the window */

static int corrupt(const struct cold_scan *scan, uint64_t offset, const char *what)
{
    return cold_fail(scan->cold, TIERS_CORRUPT,
                     "cold segment %016" PRIx64 " in %s is damaged at offset %" PRIu64 ": %s",
                     scan->file->id, scan->cold->files.directory, offset, what);
}

static int ring_failed(struct cold *cold, int result)
{
    cold->stopped = true;
    return cold_fail(cold, TIERS_STOPPED, "io_uring failed: %s", strerror(-result));
}

static struct ahead *ahead_at(struct cold_scan *scan, unsigned i)
{
    return &scan->ahead[(scan->ahead_first + i) % COLD_SCAN_READS_AHEAD];
}

/* Begins to read what follows the window, as far as that is not on its way. */
static void ahead_begin(struct cold_scan *scan)
{
    uint64_t from = scan->offset + scan->length;
    uint64_t end = cold_align_up(scan->file_bytes);
    for (unsigned i = 0; i < COLD_SCAN_READS_AHEAD && scan->reads_ahead && from < end; i++) {
        struct ahead *ahead = ahead_at(scan, i);
        if (!ahead->begun) {
            ahead->op = (struct uring_op){
                .kind = URING_READ,
                .fd = scan->file->fd,
                .buffer = ahead->bytes,
                .length = end - from < READ_BYTES ? (uint32_t)(end - from) : READ_BYTES,
                .offset = from,
            };
            uring_submit(scan->cold->ring, &ahead->op);
            ahead->begun = true;
        }
        from += ahead->op.length;
    }
}

static int ahead_wait(struct cold_scan *scan, const struct ahead *ahead)
{
    while (ahead->op.under_way) {
        int result = uring_wait(scan->cold->ring);
        if (result < 0)
            return ring_failed(scan->cold, result);
    }
    return 0;
}

/* Forgets what was read ahead. */
static int ahead_drop(struct cold_scan *scan)
{
    int status = 0;
    for (unsigned i = 0; i < COLD_SCAN_READS_AHEAD && status == 0; i++) {
        status = ahead_wait(scan, &scan->ahead[i]);
        scan->ahead[i].begun = false;
    }
    return status;
}

/* Puts the first of what was read ahead into the window, if it is what follows there. If not, or
 * only in part, what comes behind it is of no use either. */
static int ahead_take(struct cold_scan *scan)
{
    struct ahead *ahead = ahead_at(scan, 0);
    if (!ahead->begun)
        return 0;
    int status = ahead_wait(scan, ahead);
    if (status != 0)
        return status;
    int result = ahead->op.result;
    if (result <= 0 || ahead->op.offset != scan->offset + scan->length)
        return ahead_drop(scan);
    size_t n = (size_t)result;
    if (ahead->op.offset + n < scan->file_bytes)
        n = cold_align_down(n);
    if (n > scan->capacity - scan->length)
        n = scan->capacity - scan->length;
    memcpy(scan->bytes + scan->length, ahead->bytes, n);
    scan->length += n;
    scan->bytes_read += n;
    if (n < ahead->op.length && ahead->op.offset + n < scan->file_bytes)
        return ahead_drop(scan);
    ahead->begun = false;
    scan->ahead_first = (scan->ahead_first + 1) % COLD_SCAN_READS_AHEAD;
    return 0;
}

/* Reads the blocks up to `end` (at most the capacity) that follow what the window holds. On failure
 * the window holds what could be read. */
static int window_read(struct cold_scan *scan, uint64_t end)
{
    struct cold *cold = scan->cold;
    for (unsigned tries = 0; scan->offset + scan->length < end; tries++) {
        uint64_t from = scan->offset + scan->length;
        cold->run_op = (struct uring_op){
            .kind = URING_READ,
            .fd = scan->file->fd,
            .buffer = scan->bytes + scan->length,
            .length = (uint32_t)(end - from),
            .offset = from,
        };
        int result = uring_run(cold->ring, &cold->run_op);
        if (cold->run_op.under_way) {
            /* The kernel may still write to it */
            scan->bytes = NULL;
            scan->memory = NULL;
            return ring_failed(cold, result);
        }
        if (result == 0) {
            scan->file_bytes = from;
            scan->cut = true;
            return corrupt(scan, from, "the file ends there");
        }
        if (result > 0) {
            size_t progress =
                from + (size_t)result < end ? cold_align_down((uint64_t)result) : (size_t)result;
            scan->length += progress;
            scan->bytes_read += progress;
            if (progress > 0)
                tries = 0;
        } else if (result == -EINVAL) {
            cold_files_refuse_direct(&cold->files, scan->file->fd);
        }
        bool again = result >= 0 || result == -EINVAL || result == -EAGAIN || result == -EINTR;
        if (!again || tries == COLD_TRIES_MAX)
            return cold_fail(
                cold, result < 0 ? uring_status(result) : TIERS_IO,
                "cannot read cold segment %016" PRIx64 " in %s at offset %" PRIu64 ": %s",
                scan->file->id, cold->files.directory, from, strerror(result < 0 ? -result : EIO));
    }
    return 0;
}

/* A large read failed: reads as many single blocks up to `end` as can be read. The one that cannot
 * is damage like any other. */
static int window_read_blocks(struct cold_scan *scan, uint64_t end)
{
    int status = 0;
    while (status == 0 && scan->offset + scan->length < end)
        status = window_read(scan, scan->offset + scan->length + COLD_BLOCK_BYTES);
    if (status != TIERS_IO || ++scan->unreadable > UNREADABLE_BLOCKS_MAX)
        return status;
    scan->resume = scan->offset + scan->length + COLD_BLOCK_BYTES;
    return corrupt(scan, scan->offset + scan->length, "the disk cannot read it");
}

static int window_grow(struct cold_scan *scan, size_t capacity)
{
    unsigned char *bytes = aligned_alloc(COLD_BLOCK_BYTES, capacity);
    if (bytes == NULL)
        return cold_fail(scan->cold, TIERS_NO_MEMORY, "out of memory to scan a cold segment");
    if (scan->length > 0)
        memcpy(bytes, scan->bytes, scan->length);
    if (scan->bytes != scan->memory)
        free(scan->bytes);
    scan->bytes = bytes;
    scan->capacity = capacity;
    return 0;
}

/* Makes the window begin with the block of `position`, keeping what it has of that. */
static void window_move(struct cold_scan *scan, uint64_t position)
{
    uint64_t from = cold_align_down(position);
    if (from < scan->offset || from > scan->offset + scan->length) {
        scan->length = 0;
    } else {
        size_t skip = (size_t)(from - scan->offset);
        memmove(scan->bytes, scan->bytes + skip, scan->length - skip);
        scan->length -= skip;
    }
    scan->offset = from;
}

/* Reads up to `need_end`, and what comes cheaply with it. */
static int window_fill(struct cold_scan *scan, uint64_t need_end)
{
    if (scan->offset + scan->length >= need_end)
        return 0;
    uint64_t end = scan->offset + scan->length + READ_BYTES;
    if (end > scan->offset + scan->capacity)
        end = scan->offset + scan->capacity;
    if (end > scan->file_bytes)
        end = cold_align_up(scan->file_bytes);
    if (end < need_end)
        end = need_end;
    int status = window_read(scan, end);
    return status == TIERS_IO ? window_read_blocks(scan, need_end) : status;
}

/* Makes the window hold `need` bytes from `position` on, and returns where they are. */
static int window_hold(struct cold_scan *scan, uint64_t position, size_t need,
                       const unsigned char **ret_bytes)
{
    if (position + need > scan->file_bytes)
        return corrupt(scan, position, "a record goes beyond the end");
    if (position < scan->offset || position + need > scan->offset + scan->length) {
        window_move(scan, position);
        uint64_t need_end = cold_align_up(position + need);
        int status = 0;
        if (need_end - scan->offset > scan->capacity)
            status = window_grow(scan, (size_t)(need_end - scan->offset));
        unsigned taken = 0;
        while (status == 0 && scan->offset + scan->length < need_end &&
               taken++ < COLD_SCAN_READS_AHEAD)
            status = ahead_take(scan);
        if (status != 0)
            return status;
        status = window_fill(scan, need_end);
        if (status == TIERS_STOPPED ||
            (status != 0 && position + need > scan->offset + scan->length))
            return status;
        ahead_begin(scan);
    }
    *ret_bytes = scan->bytes + (position - scan->offset);
    return 0;
}

/* ------------------------------------------------------------------------------------- records */

static bool zeros(const unsigned char *bytes, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* If padding begins at `*position`, moves it to the next block. */
static int padding_skip(struct cold_scan *scan, uint64_t *position)
{
    const unsigned char *bytes = NULL;
    int status = window_hold(scan, *position, COLD_RECORD_ALIGN, &bytes);
    if (status != 0 || !zeros(bytes, 4))
        return status;
    uint64_t end = cold_align_up(*position);
    status = window_hold(scan, *position, (size_t)(end - *position), &bytes);
    if (status != 0)
        return status;
    if (end == *position || !zeros(bytes, (size_t)(end - *position)))
        return corrupt(scan, *position, "zeros where a record should be");
    *position = end;
    return 0;
}

/* Makes the window hold the record at `position`, as far as its header, which nothing has verified,
 * can be believed. *ret_end: where it says that it ends; 0 if it cannot be one. */
static int record_hold(struct cold_scan *scan, uint64_t position, const unsigned char **ret_bytes,
                       uint64_t *ret_end)
{
    size_t n_bytes = 0;
    *ret_end = 0;
    int status = window_hold(scan, position, COLD_RECORD_HEADER_BYTES, ret_bytes);
    if (status != 0)
        return status;
    if (cold_record_size(*ret_bytes, &n_bytes) != 0)
        return corrupt(scan, position, "no record header");
    *ret_end = position + n_bytes;
    return window_hold(scan, position, n_bytes, ret_bytes);
}

/* Verifies and decodes the record from `position` to `end`, which the window holds. */
static int record_decode(struct cold_scan *scan, uint64_t position, uint64_t end,
                         struct cold_item *ret_item)
{
    const unsigned char *bytes = scan->bytes + (position - scan->offset);
    size_t n_bytes = (size_t)(end - position);
    struct cold_dictionary *dictionary = NULL;
    uint32_t id = cold_record_dictionary(bytes);
    int status = 0;
    if (id != 0)
        status = cold_dictionaries_get(&scan->cold->dictionaries, &scan->cold->files, scan->file,
                                       id, &dictionary);
    if (status == TIERS_NO_MEMORY)
        return cold_fail(scan->cold, status, "out of memory for a dictionary");
    if (status != 0)
        return corrupt(scan, position, "the dictionary that a record needs is not there");
    status = cold_record_decode(scan->cold->codec, bytes, n_bytes, dictionary, ret_item);
    cold_dictionary_release(dictionary);
    if (status == TIERS_CORRUPT)
        return corrupt(scan, position, "the record's checksum is wrong");
    if (status != 0)
        return cold_fail(scan->cold, status, "out of memory to scan a cold segment");
    ret_item->location = (struct cold_location){
        .segment = scan->file->id, .offset = position, .bytes = (uint32_t)n_bytes};
    return 0;
}

/* Both. */
static int record_read(struct cold_scan *scan, uint64_t position, struct cold_item *ret_item)
{
    const unsigned char *bytes = NULL;
    uint64_t end = 0;
    int status = record_hold(scan, position, &bytes, &end);
    return status == 0 ? record_decode(scan, position, end, ret_item) : status;
}

/* Whether the segment goes on at `position`: with a record, or with padding and then one, or with
 * its end. Moves *position behind the padding. Text of failures is of no interest. */
static bool continues_at(struct cold_scan *scan, uint64_t *position)
{
    struct cold_item item;
    if (*position < scan->file_bytes && padding_skip(scan, position) != 0)
        return false;
    return *position == scan->file_bytes ||
           (*position < scan->file_bytes && record_read(scan, *position, &item) == 0);
}

/* Looks for an intact record from scan->resume on, and makes that the position; the end of the file
 * if there is none. */
static int resume(struct cold_scan *scan)
{
    uint64_t from = scan->resume;
    uint64_t at = scan->resume_hint;
    if (at != 0 && continues_at(scan, &at)) {
        scan->resume = 0;
        scan->position = at;
        return 0;
    }
    if (scan->cold->stopped)
        return TIERS_STOPPED;
    at = from;
    while (at + COLD_RECORD_HEADER_BYTES <= scan->file_bytes) {
        const unsigned char *bytes = NULL;
        struct cold_item item;
        scan->resume = 0;
        int status = window_hold(scan, at, COLD_RECORD_HEADER_BYTES, &bytes);
        if (status == 0 && little_endian_get(bytes, 4) == COLD_RECORD_MAGIC)
            status = record_read(scan, at, &item);
        else if (status == 0)
            status = TIERS_NOT_FOUND;
        if (status == 0)
            break;
        if (status != TIERS_NOT_FOUND && status != TIERS_CORRUPT)
            return status;
        /* An unreadable block is skipped as a whole. */
        at = scan->resume > at ? scan->resume : at + COLD_RECORD_ALIGN;
    }
    scan->resume = 0;
    scan->position = at + COLD_RECORD_HEADER_BYTES <= scan->file_bytes ? at : scan->file_bytes;
    return 0;
}

/* ------------------------------------------------------------------------------- the interface */

/* Checks header and dictionary; *ret_end: where they end, as far as is known. */
static int header_check(struct cold_scan *scan, uint64_t *ret_end)
{
    const unsigned char *bytes = NULL;
    struct cold_header header;
    *ret_end = COLD_BLOCK_BYTES;
    int status = window_hold(scan, 0, COLD_BLOCK_BYTES, &bytes);
    if (status != 0)
        return status;
    status = cold_header_read(scan->file->id, bytes, &header);
    if (status == TIERS_VERSION)
        return cold_fail(scan->cold, status,
                         "cold segment %016" PRIx64 " in %s has an unknown format version",
                         scan->file->id, scan->cold->files.directory);
    if (status != 0)
        return corrupt(scan, 0, "no segment header");
    if (header.dictionary_bytes == 0)
        return 0;
    *ret_end = COLD_BLOCK_BYTES + cold_align_up(header.dictionary_bytes);
    status = window_hold(scan, COLD_BLOCK_BYTES, header.dictionary_bytes, &bytes);
    if (status == 0 && XXH3_64bits(bytes, header.dictionary_bytes) != header.dictionary_checksum)
        status = corrupt(scan, COLD_BLOCK_BYTES, "the dictionary's checksum is wrong");
    return status;
}

int cold_scan_open(struct cold *cold, uint64_t id, struct cold_scan **ret_scan)
{
    if (cold->stopped)
        return TIERS_STOPPED;
    if (cold_segment_active(cold, id))
        return TIERS_INVALID;
    struct cold_scan *scan = calloc(1, sizeof *scan);
    if (scan == NULL)
        return cold_fail(cold, TIERS_NO_MEMORY, "out of memory to scan a cold segment");
    scan->cold = cold;
    int status = cold_files_acquire(&cold->files, id, &scan->file, &scan->file_bytes);
    if (status != 0) {
        free(scan);
        return cold_fail(cold, status, "cannot open cold segment %016" PRIx64 " in %s", id,
                         cold->files.directory);
    }
    scan->memory = aligned_alloc(COLD_HUGE_PAGE_BYTES, MEMORY_BYTES);
    if (scan->memory == NULL) {
        cold_scan_close(scan);
        return cold_fail(cold, TIERS_NO_MEMORY, "out of memory to scan a cold segment");
    }
    (void)madvise(scan->memory, MEMORY_BYTES, MADV_HUGEPAGE);
    scan->bytes = scan->memory;
    scan->capacity = WINDOW_BYTES;
    for (size_t i = 0; i < COLD_SCAN_READS_AHEAD; i++)
        scan->ahead[i].bytes = scan->memory + WINDOW_BYTES + i * READ_BYTES;
    scan->reads_ahead = cold->scans_ahead < COLD_SCANS_AHEAD_MAX;
    cold->scans_ahead += scan->reads_ahead;
    *ret_scan = scan;
    return 0;
}

void cold_scan_close(struct cold_scan *scan)
{
    if (scan == NULL)
        return;
    bool failed = ahead_drop(scan) != 0;
    scan->cold->scans_ahead -= scan->reads_ahead;
    cold_files_release(&scan->cold->files, scan->file);
    if (scan->bytes != scan->memory)
        free(scan->bytes);
    if (!failed) { /* Else the ring still knows its operations, and the kernel the memory */
        free(scan->memory);
        free(scan);
    }
}

uint64_t cold_scan_segment(const struct cold_scan *scan)
{
    return scan->file->id;
}

uint64_t cold_scan_bytes_read(const struct cold_scan *scan)
{
    return scan->bytes_read;
}

/* Where the next call goes on after damage at the position. */
static void damage_note(struct cold_scan *scan, uint64_t end)
{
    scan->resume_hint = end;
    if (scan->resume <= scan->position)
        scan->resume = scan->position + COLD_RECORD_ALIGN;
}

/* Moves to the next record, which the window then holds. */
static int next_find(struct cold_scan *scan, const unsigned char **ret_bytes)
{
    uint64_t end = 0;
    int status = 0;
    if (scan->end != 0) {
        scan->position = scan->end;
        scan->end = 0;
    }
    if (scan->resume != 0)
        status = resume(scan);
    if (status == 0 && scan->position == 0) {
        status = header_check(scan, &end);
        scan->position = end;
    }
    if (status == 0 && scan->position < scan->file_bytes)
        status = padding_skip(scan, &scan->position);
    if (status == 0 && scan->position >= scan->file_bytes) {
        status =
            scan->cut ? corrupt(scan, scan->file_bytes, "the file ends there") : TIERS_NOT_FOUND;
        scan->cut = false;
        return status;
    }
    if (status == 0)
        status = record_hold(scan, scan->position, ret_bytes, &end);
    if (status == 0)
        scan->end = end;
    else if (status == TIERS_CORRUPT)
        damage_note(scan, end);
    scan->cut = scan->cut && status != TIERS_CORRUPT;
    return status;
}

int cold_scan_peek(struct cold_scan *scan, struct cold_item *ret_item)
{
    const unsigned char *bytes = NULL;
    if (scan->cold->stopped || scan->bytes == NULL)
        return TIERS_STOPPED;
    if (cold_files_deleted(&scan->cold->files, scan->file))
        return TIERS_STALE;
    int status = next_find(scan, &bytes);
    if (status != 0)
        return status;
    cold_record_peek(bytes, ret_item);
    ret_item->location = (struct cold_location){.segment = scan->file->id,
                                                .offset = scan->position,
                                                .bytes = (uint32_t)(scan->end - scan->position)};
    return 0;
}

int cold_scan_read(struct cold_scan *scan, struct cold_item *ret_item)
{
    assert(scan->end != 0);
    uint64_t end = scan->end;
    int status = record_decode(scan, scan->position, end, ret_item);
    if (status != 0)
        scan->end = 0;
    if (status == TIERS_CORRUPT)
        damage_note(scan, end);
    return status;
}

void cold_scan_return(struct cold_scan *scan)
{
    scan->end = 0;
}

int cold_scan_next(struct cold_scan *scan, struct cold_item *ret_item)
{
    int status = cold_scan_peek(scan, ret_item);
    return status == 0 ? cold_scan_read(scan, ret_item) : status;
}
