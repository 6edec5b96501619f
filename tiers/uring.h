/* A small io_uring: file reads, writes and fsyncs with one callback each.
 *
 * A ring belongs to one thread. An operation (struct uring_op) is embedded in the object it serves,
 * stays in place until its `done` ran, and is handed to the kernel at once or, if many are to start
 * together, in one batch. `done` runs inside uring_reap or uring_wait, never inside uring_submit.
 * uring.c is the only file that knows liburing.
 */
#ifndef TIERS_URING_H
#define TIERS_URING_H

#include <linux/time_types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define URING_DEPTH_MAX 4096

/* So many completions at a time: their owner can begin other operations before it comes to the
 * rest, and the disk need not wait for it to come to the end of them all. */
#define URING_REAP_MAX 8

struct uring;

enum uring_kind { URING_READ, URING_WRITE, URING_FSYNC };

struct uring_op {
    enum uring_kind kind;
    int fd;
    void *buffer;    /* Read, write: borrowed until done */
    uint32_t length; /* Read, write: bytes */
    uint64_t offset; /* Read, write: in the file */
    void (*done)(struct uring_op *op);
    void *owner;
    int result; /* Once done: bytes transferred (maybe fewer than asked for), or -errno */

    /* Kept by the ring */
    bool under_way;
    bool replaced;
    uint8_t completions_left;              /* Two if something delays the operation */
    struct __kernel_timespec completes_at; /* Of that disk */
};

/* `depth` (1 to URING_DEPTH_MAX) is the number of operations that may be under way. If event_fd is
 * not -1 it becomes readable with each completion; it is borrowed. On failure a TIERS_ code, and
 * `error_text` gets one sentence with the cause. */
int uring_open(unsigned depth, int event_fd, struct uring **ret_ring, char *error_text,
               size_t error_text_size);

/* Frees the ring. False if operations were still under way, which happens only after a failed
 * uring_wait: the kernel may then still use their buffers, and these must not be freed. */
bool uring_close(struct uring *ring);

/* Starts `op`, whose fields down to `owner` are set. Must not be called with depth operations under
 * way. Cannot fail: trouble shows in the operation's result, or in uring_wait. */
void uring_submit(struct uring *ring, struct uring_op *op);

/* The same in two steps: uring_queue only notes the operation, uring_flush hands all that were
 * noted to the kernel at once. uring_submit, uring_reap and uring_wait flush too. */
void uring_queue(struct uring *ring, struct uring_op *op);
void uring_flush(struct uring *ring);

/* Keeps the memory pinned for the kernel, so that reads and writes whose buffer lies in it need not
 * look its pages up each time. Once per ring; the memory must outlive it. False if the system
 * refuses (its limit of locked memory, most often): all works the same, a little slower. */
bool uring_memory_register(struct uring *ring, void *memory, size_t n_bytes);

/* Runs `done` for what has completed at the time of the call, for URING_REAP_MAX of them at most;
 * never blocks. While there are more the event_fd is readable. Returns how many. */
unsigned uring_reap(struct uring *ring);

/* Blocks until an operation has completed, then as uring_reap. Returns how many (0 if none is under
 * way), or -errno if the kernel refuses to work on the ring: it is then useless for good. */
int uring_wait(struct uring *ring);

/* Submits `op` (its `done` is not used) and blocks until it has completed. Other operations
 * complete meanwhile. Returns the result; if the ring itself failed, op->under_way is still true.
 */
int uring_run(struct uring *ring, struct uring_op *op);

/* The TIERS_ code for an errno value (of either sign); 0 for 0. Running out of descriptors counts
 * as TIERS_NO_MEMORY. */
int uring_status(int error);

/* Test hook: sees each operation of every ring before it starts, on the submitting thread. */
struct uring_faults {
    void *context;
    /* May block, to delay the operation. May lower *length, so that only a part is carried out. If
     * it returns true nothing is carried out and the operation completes with *result. */
    bool (*before)(void *context, const struct uring_op *op, uint32_t *length, int *result);
    /* NULL, or: a descriptor until whose readiness for reading the operation does not complete, or,
     * with *ret_late true, does not even begin; it stays open until `after`. -1: as ever. Called
     * after `before`, for rings that were opened under a hook that has it. */
    int (*gate)(void *context, const struct uring_op *op, bool *ret_late);
    /* NULL, or: the operation has completed; `done` comes next. The thread that reaps. For the
     * same rings. */
    void (*after)(void *context, const struct uring_op *op);
};

/* NULL, the default, takes the hook away. `faults` is borrowed. */
void uring_faults_set(const struct uring_faults *faults);

#endif
