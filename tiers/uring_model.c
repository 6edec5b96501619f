/* See uring_model.h. The installed model is one disk behind a lock, held for a few additions. */
#include "uring_model.h"

#include <pthread.h>
#include <time.h>

#define NS_PER_SECOND UINT64_C(1000000000)
#define NS_PER_US     UINT64_C(1000)

static struct {
    pthread_mutex_t lock;
    bool installed;
    struct uring_model model;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER};

void uring_model_init(struct uring_model *model, const struct tiers_disk_model *disk)
{
    *model = (struct uring_model){.disk = *disk, .head_fd = -1};
}

uint64_t uring_model_serve(struct uring_model *model, uint64_t now_ns, const struct uring_op *op,
                           uint32_t length)
{
    uint64_t at_ns = model->free_ns > now_ns ? model->free_ns : now_ns;
    bool sync = op->kind == URING_FSYNC;

    if (sync || op->fd != model->head_fd || op->offset != model->head)
        at_ns += model->disk.seek_us * NS_PER_US;
    if (!sync && model->disk.bytes_per_second > 0)
        at_ns += length * NS_PER_SECOND / model->disk.bytes_per_second;
    model->free_ns = at_ns;
    model->head_fd = sync ? -1 : op->fd;
    model->head = op->offset + length;
    return at_ns;
}

void tiers_cold_model_set(const struct tiers_disk_model *model)
{
    pthread_mutex_lock(&shared.lock);
    shared.installed = model != NULL;
    if (model != NULL)
        uring_model_init(&shared.model, model);
    pthread_mutex_unlock(&shared.lock);
}

bool uring_model_installed(void)
{
    pthread_mutex_lock(&shared.lock);
    bool installed = shared.installed;
    pthread_mutex_unlock(&shared.lock);
    return installed;
}

uint64_t uring_model_deadline_ns(const struct uring_op *op, uint32_t length)
{
    struct timespec now;
    uint64_t deadline_ns = 0;

    clock_gettime(CLOCK_MONOTONIC, &now);
    pthread_mutex_lock(&shared.lock);
    if (shared.installed)
        deadline_ns = uring_model_serve(
            &shared.model, (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec, op,
            length);
    pthread_mutex_unlock(&shared.lock);
    return deadline_ns;
}
