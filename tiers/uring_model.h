/* When a modelled disk (tiers/testing.h) would have completed an operation.
 *
 * uring_model_serve is pure. The rest is the one disk that all rings of the process share. */
#ifndef TIERS_URING_MODEL_H
#define TIERS_URING_MODEL_H

#include "tiers/testing.h"
#include "uring.h"

struct uring_model {
    struct tiers_disk_model disk;
    uint64_t free_ns; /* When the head has served all that was started */
    uint64_t head;    /* Where it then stands: behind this byte... */
    int head_fd;      /* ...of this file; -1: elsewhere */
};

void uring_model_init(struct uring_model *model, const struct tiers_disk_model *disk);

/* Queues `length` bytes of the operation behind what was started before; returns when they are
 * served, on the clock of `now_ns`. */
uint64_t uring_model_serve(struct uring_model *model, uint64_t now_ns, const struct uring_op *op,
                           uint32_t length);

/* Whether rings opened now obey a model. */
bool uring_model_installed(void);

/* The same for the installed model, on CLOCK_MONOTONIC; 0 if there is none. Any thread. */
uint64_t uring_model_deadline_ns(const struct uring_op *op, uint32_t length);

#endif
