/* io_uring for the cold tier: see uring.h.
 *
 * A flush enters the kernel once for all that was queued. When the kernel is short of memory for a
 * moment the entries stay in the submission queue and go out with the next flush, reap or wait; the
 * event_fd is made readable so that an owner who sleeps on it comes back. The completion queue is
 * twice as long as the number of operations that may be under way, so that it never overflows.
 *
 * Memory is registered, files are not: a ring would hold a deleted segment's file, and its space on
 * the disk, until it is told to let go.
 *
 * Under a modelled disk (uring_model.h) an operation is accompanied by a timer of the kernel that
 * ends when that disk would be done, under a test that holds it back by a poll of the test's
 * descriptor; it completes with the later of the two, and nobody sleeps.
 */
#include "uring.h"

#include "tiers/tiers.h"
#include "uring_model.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

/* How often uring_wait yields to a kernel that is short of memory before it gives up. */
#define WAIT_YIELDS_MAX 100000

#define NS_PER_SECOND 1000000000u

/* Tells the completion of an operation's timer or poll from its own. */
#define COMPANION_TAG UINT64_C(1)

struct uring {
    struct io_uring ring;
    unsigned depth;
    unsigned under_way;
    int event_fd;
    const unsigned char *registered; /* Memory pinned for the kernel, or NULL */
    size_t registered_bytes;
    bool modelled; /* Timers accompany the operations */
    bool gated;    /* Polls may */
    int failure;   /* -errno of the call that showed that the ring is useless, or 0 */
};

static _Atomic(const struct uring_faults *) faults_installed;

void uring_faults_set(const struct uring_faults *faults)
{
    atomic_store(&faults_installed, faults);
}

int uring_status(int error)
{
    switch (error < 0 ? -error : error) {
    case 0:
        return 0;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return TIERS_NO_SPACE;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return TIERS_NO_MEMORY;
    case EACCES:
    case EPERM:
    case EROFS:
        return TIERS_ACCESS;
    default:
        return TIERS_IO;
    }
}

static const char *open_hint(int error)
{
    switch (error) {
    case ENOSYS:
        return "the kernel is too old or built without it";
    case EPERM:
    case EACCES:
        return "a seccomp filter or kernel.io_uring_disabled forbids it";
    case ENOMEM:
        return "the limit of locked memory (ulimit -l) may be too low";
    default:
        return "see io_uring_setup(2)";
    }
}

static bool operations_supported(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    if (probe == NULL)
        return false;
    bool supported = io_uring_opcode_supported(probe, IORING_OP_READ) &&
                     io_uring_opcode_supported(probe, IORING_OP_WRITE) &&
                     io_uring_opcode_supported(probe, IORING_OP_FSYNC);
    io_uring_free_probe(probe);
    return supported;
}

int uring_open(unsigned depth, int event_fd, struct uring **ret_ring, char *error_text,
               size_t error_text_size)
{
    assert(depth >= 1 && depth <= URING_DEPTH_MAX);
    struct uring *ring = calloc(1, sizeof *ring);
    if (ring == NULL) {
        snprintf(error_text, error_text_size, "out of memory for an io_uring");
        return TIERS_NO_MEMORY;
    }
    ring->depth = depth;
    ring->event_fd = event_fd;
    ring->modelled = uring_model_installed();
    const struct uring_faults *faults = atomic_load(&faults_installed);
    ring->gated = faults != NULL && faults->gate != NULL;

    unsigned entries = ring->modelled || ring->gated ? 2 * depth : depth;
    int error = -io_uring_queue_init(entries, &ring->ring, 0);
    if (error != 0) {
        snprintf(error_text, error_text_size, "io_uring is not available: %s (%s)", strerror(error),
                 open_hint(error));
        goto fail;
    }
    if (!operations_supported(&ring->ring)) {
        error = ENOSYS;
        snprintf(error_text, error_text_size,
                 "io_uring is not available: the kernel is too old (5.6 is needed)");
        goto fail_ring;
    }
    if (event_fd != -1) {
        error = -io_uring_register_eventfd(&ring->ring, event_fd);
        if (error != 0) {
            snprintf(error_text, error_text_size, "io_uring refuses the eventfd: %s",
                     strerror(error));
            goto fail_ring;
        }
    }
    *ret_ring = ring;
    return 0;

fail_ring:
    io_uring_queue_exit(&ring->ring);
fail:
    free(ring);
    return uring_status(error);
}

bool uring_close(struct uring *ring)
{
    bool idle = ring->under_way == 0;
    assert(idle || ring->failure != 0);
    io_uring_queue_exit(&ring->ring);
    free(ring);
    return idle;
}

bool uring_memory_register(struct uring *ring, void *memory, size_t n_bytes)
{
    assert(ring->registered == NULL && ring->under_way == 0);
    struct iovec whole = {.iov_base = memory, .iov_len = n_bytes};
    if (io_uring_register_buffers(&ring->ring, &whole, 1) != 0)
        return false;
    ring->registered = memory;
    ring->registered_bytes = n_bytes;
    return true;
}

static bool is_registered(const struct uring *ring, const struct uring_op *op)
{
    uintptr_t base = (uintptr_t)ring->registered;
    uintptr_t at = (uintptr_t)op->buffer;
    return ring->registered != NULL && at >= base && at - base < ring->registered_bytes &&
           op->length <= ring->registered_bytes - (at - base);
}

/* It is to come back though nothing completes. */
static void wake_owner(const struct uring *ring)
{
    if (ring->event_fd != -1)
        (void)eventfd_write(ring->event_fd, 1);
}

void uring_flush(struct uring *ring)
{
    int result = 1;
    /* The kernel stops at an entry that it refuses at once, and wants to be called again. */
    while (io_uring_sq_ready(&ring->ring) > 0 && (result > 0 || result == -EINTR))
        result = io_uring_submit(&ring->ring);
    if (result < 0)
        wake_owner(ring);
}

static void prepare_timer(struct uring *ring, struct uring_op *op, uint32_t length)
{
    uint64_t deadline_ns = uring_model_deadline_ns(op, length);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
    assert(sqe != NULL);

    op->completes_at.tv_sec = (int64_t)(deadline_ns / NS_PER_SECOND);
    op->completes_at.tv_nsec = (long long)(deadline_ns % NS_PER_SECOND);
    op->completions_left++;
    io_uring_prep_timeout(sqe, &op->completes_at, 0, IORING_TIMEOUT_ABS);
    io_uring_sqe_set_data64(sqe, (uintptr_t)op | COMPANION_TAG);
}

/* True: the operation is held back. Linked to the poll it begins after it. */
static bool prepare_gate(struct uring *ring, const struct uring_faults *faults,
                         const struct uring_op *op)
{
    bool late = false;
    int fd = faults->gate(faults->context, op, &late);
    if (fd < 0)
        return false;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
    assert(sqe != NULL);

    io_uring_prep_poll_add(sqe, fd, POLLIN);
    if (late)
        io_uring_sqe_set_flags(sqe, IOSQE_IO_LINK);
    io_uring_sqe_set_data64(sqe, (uintptr_t)op | COMPANION_TAG);
    return true;
}

static void prepare_operation(struct uring *ring, struct uring_op *op, uint32_t length)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
    assert(sqe != NULL);

    bool fixed = is_registered(ring, op);
    if (op->replaced)
        io_uring_prep_nop(sqe);
    else if (op->kind == URING_READ && fixed)
        io_uring_prep_read_fixed(sqe, op->fd, op->buffer, length, op->offset, 0);
    else if (op->kind == URING_READ)
        io_uring_prep_read(sqe, op->fd, op->buffer, length, op->offset);
    else if (op->kind == URING_WRITE && fixed)
        io_uring_prep_write_fixed(sqe, op->fd, op->buffer, length, op->offset, 0);
    else if (op->kind == URING_WRITE)
        io_uring_prep_write(sqe, op->fd, op->buffer, length, op->offset);
    else
        io_uring_prep_fsync(sqe, op->fd, 0);
    io_uring_sqe_set_data(sqe, op);
}

void uring_queue(struct uring *ring, struct uring_op *op)
{
    assert(!op->under_way);
    assert(ring->under_way < ring->depth);
    uint32_t length = op->length;
    const struct uring_faults *faults = atomic_load(&faults_installed);
    op->replaced = faults != NULL && faults->before(faults->context, op, &length, &op->result);
    assert(length <= op->length);

    bool held =
        ring->gated && faults != NULL && faults->gate != NULL && prepare_gate(ring, faults, op);
    op->completions_left = held ? 2 : 1;
    prepare_operation(ring, op, length);
    if (ring->modelled && !held && !op->replaced)
        prepare_timer(ring, op, length);
    op->under_way = true;
    ring->under_way++;
}

void uring_submit(struct uring *ring, struct uring_op *op)
{
    uring_queue(ring, op);
    uring_flush(ring);
}

static void completed(struct uring *ring, struct uring_op *op)
{
    const struct uring_faults *faults = ring->gated ? atomic_load(&faults_installed) : NULL;
    op->under_way = false;
    ring->under_way--;
    if (faults != NULL && faults->after != NULL)
        faults->after(faults->context, op);
    if (op->done != NULL)
        op->done(op);
}

static struct uring_op *pointer_of(uint64_t data)
{
    return (struct uring_op *)(uintptr_t)(data & ~COMPANION_TAG);
}

unsigned uring_reap(struct uring *ring)
{
    uring_flush(ring);

    /* What the callbacks submit may complete at once; it waits for the next call. */
    unsigned ready = io_uring_cq_ready(&ring->ring), done = 0;
    unsigned n = ready < URING_REAP_MAX ? ready : URING_REAP_MAX;
    for (unsigned i = 0; i < n; i++) {
        struct io_uring_cqe *cqe = NULL;
        (void)io_uring_peek_cqe(&ring->ring, &cqe);
        assert(cqe != NULL);
        uint64_t data = io_uring_cqe_get_data64(cqe);
        struct uring_op *op = pointer_of(data);
        if (!op->replaced && (data & COMPANION_TAG) == 0)
            op->result = cqe->res;
        io_uring_cqe_seen(&ring->ring, cqe);

        assert(op->under_way && ring->under_way > 0 && op->completions_left > 0);
        if (--op->completions_left > 0)
            continue;
        done++;
        completed(ring, op);
    }
    if (n < ready)
        wake_owner(ring);
    return done;
}

int uring_wait(struct uring *ring)
{
    if (ring->failure != 0)
        return ring->failure;
    if (ring->under_way == 0)
        return 0;

    for (unsigned yields = 0; yields < WAIT_YIELDS_MAX; yields++) {
        int result = io_uring_submit_and_wait(&ring->ring, 1);
        unsigned done = uring_reap(ring);
        if (done > 0)
            return (int)done;
        if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY) {
            ring->failure = result;
            return result;
        }
        if (result < 0)
            sched_yield();
    }
    ring->failure = -EAGAIN;
    return ring->failure;
}

int uring_run(struct uring *ring, struct uring_op *op)
{
    op->done = NULL;
    uring_submit(ring, op);
    while (op->under_way) {
        int result = uring_wait(ring);
        if (result < 0)
            return result;
    }
    return op->result;
}
