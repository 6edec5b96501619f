/* What the files of the cold tier share: cold.c (appending), cold_write.c, cold_scan.c,
 * cold_reader.c. */
#ifndef TIERS_COLD_INTERNAL_H
#define TIERS_COLD_INTERNAL_H

#include "cold.h"
#include "cold_dictionaries.h"
#include "cold_files.h"
#include "cold_header.h"
#include "cold_record.h"
#include "uring.h"

#define COLD_BUFFER_BYTES (1u << 20) /* Of one write */
/* All but the filling one may be on their way: the disk has work while records are looked up. */
#define COLD_BUFFERS 12
/* Of these, the first, which keep their memory: enough for work that is not in a hurry. */
#define COLD_BUFFERS_KEPT 4

/* Scans beyond these (compaction's and the scrubber's) do not read ahead. */
#define COLD_SCANS_AHEAD_MAX 2
/* Of each of them. */
#define COLD_SCAN_READS_AHEAD 2

/* Memory that the disk reads or writes in large pieces is aligned to this, and advised to be one
 * page: that is one piece for the disk's driver, while of pages of 4 KiB each is one. On a virtual
 * disk this decides how fast it is. */
#define COLD_HUGE_PAGE_BYTES ((size_t)2 << 20)

/* An operation may be cut short, interrupted or refused for a moment, but not for ever: this many
 * tries without progress make it an error. */
#define COLD_TRIES_MAX 1000

/* One of the append buffers: bytes of the active segment from `offset` on. */
struct cold_buffer {
    struct cold *cold;
    struct uring_op op;
    unsigned char *bytes; /* COLD_BUFFER_BYTES of the memory, aligned to COLD_BLOCK_BYTES */
    uint64_t offset;
    uint32_t length;  /* Filled */
    uint32_t written; /* Of those, on their way no more; a multiple of COLD_BLOCK_BYTES */
    unsigned tries;   /* Without progress */
};

/* A segment that grew since the last sync. */
struct cold_touched {
    struct cold_file *file;
    uint64_t bytes; /* Set when it is sealed or synced */
};

struct cold {
    struct cold_files files; /* Any thread; all else is the mover's */
    uint64_t segment_bytes;
    uint32_t read_depth;
    uint32_t read_queue;

    struct cold_dictionaries dictionaries; /* Any thread */

    struct uring *ring;
    unsigned scans_ahead; /* Open scans that read ahead */
    struct cold_codec *codec;
    struct cold_samples *samples;
    struct cold_dictionary *dictionary; /* Of segments to come; NULL: none */
    struct uring_op run_op;             /* Of fsyncs and scans, which are waited for */
    uint64_t next_id;

    struct cold_file *active; /* The segment being appended to; NULL: none yet */
    int active_fd;
    struct cold_dictionary *active_dictionary; /* In its file; NULL: none */
    uint64_t preallocated;                     /* Up to where the active segment has its blocks */
    unsigned char *memory;                     /* Of all buffers */
    struct cold_buffer buffers[COLD_BUFFERS];
    unsigned filling;       /* Index of the buffer that takes the next bytes */
    bool in_hurry;          /* Others than those kept were used since cold_write_rest */
    unsigned char *scratch; /* One encoded record that the filling buffer has no room for */
    size_t scratch_size;
    uint64_t appended_bytes; /* Of records, ever */

    struct cold_touched touched[COLD_TOUCHED_MAX];
    size_t n_touched;
    bool directory_changed; /* A file was made since the directory was last synced */
    int failure;            /* Why what was appended since the last sync is void, or 0 */
    bool stopped;           /* After a failed fsync: for good */
    char error_text[256];
};

/* ---- cold_write.c: the buffers between appends and the file ---- */

int cold_write_open(struct cold *cold, char *error_text, size_t error_text_size);
void cold_write_close(struct cold *cold);
/* The active segment is new: its header goes first. No buffer is on its way. */
void cold_write_begin(struct cold *cold);
/* Where the next record goes. */
uint64_t cold_write_end(const struct cold *cold);
/* Where the next `n_bytes` go, if they fit into the filling buffer; else NULL. */
unsigned char *cold_write_room(struct cold *cold, size_t n_bytes);
/* `n_bytes` have been written there. 0 or the failure, as all below. */
int cold_write_take(struct cold *cold, size_t n_bytes);
/* Copies any number of bytes. */
int cold_write_put(struct cold *cold, const unsigned char *bytes, size_t n_bytes);
/* Starts writing what is buffered, padded to whole blocks. */
int cold_write_flush(struct cold *cold);
/* Waits until nothing is on its way. */
int cold_write_drain(struct cold *cold);
/* Gives back the memory of the buffers beyond those kept, if nothing is buffered. */
void cold_write_rest(struct cold *cold);

/* ---- All of them ---- */

/* Notes a sentence for cold_error_text. */
void cold_note(struct cold *cold, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same, with `status` as its value. */
#define cold_fail(cold, status, ...) (cold_note((cold), __VA_ARGS__), (status))

#endif
