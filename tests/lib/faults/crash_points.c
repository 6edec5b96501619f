/* Points and fates: see crash_points.h.
 *
 * Each operation is carried out here by system calls, so that the model of the disk is told before
 * and after. What is not below the root passes untouched.
 */
#include "lib/faults/crash_points.h"

#include "lib/faults/disk_model.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PARTS_MAX 1024

static const char *root_path;
static const struct crash_plan *the_plan;
static struct crash_report *the_report;
static bool calm;

static bool before(void *context, const struct libc_op *op, ssize_t *result)
{
    (void)context;
    return crash_points_take(op, result);
}

static const struct libc_faults faults = {.before = before};

struct crash_report *crash_report_new(void)
{
    struct crash_report *report =
        mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    return report;
}

void crash_report_free(struct crash_report *report)
{
    munmap(report, sizeof *report);
}

void crash_points_arm(const char *root, const char *graves, const struct crash_plan *plan,
                      struct crash_report *report)
{
    root_path = root;
    the_plan = plan;
    the_report = report;
    calm = false;
    disk_model_start(graves);
    libc_faults_set(&faults);
}

void crash_points_calm(void)
{
    calm = true;
}

void crash_points_power_off(void)
{
    libc_faults_set(NULL);
    disk_model_lose_all();
    _exit(CRASH_EXIT_STATUS);
}

/* ---- What an operation is about ---- */

/* The path of a descriptor, or of a name below one. False: it has none. */
static bool path_of(int fd, const char *name, char path[PATH_MAX])
{
    char link[64];
    size_t length = 0;
    if (name == NULL || name[0] != '/') {
        snprintf(link, sizeof link, fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, path, PATH_MAX - 1);
        if (n <= 0)
            return false;
        length = (size_t)n;
    }
    path[length] = '\0';
    if (name != NULL)
        return snprintf(path + length, PATH_MAX - length, "%s%s", length > 0 ? "/" : "", name) <
               (int)(PATH_MAX - length);
    return true;
}

static bool below_root(const char *path)
{
    size_t n = strlen(root_path);
    return strncmp(path, root_path, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static uint64_t bytes_of(const struct libc_op *op)
{
    uint64_t bytes = 0;
    for (int i = 0; i < op->n_parts; i++)
        bytes += op->parts[i].iov_len;
    return bytes;
}

static void place_note(const struct libc_op *op, const char *path)
{
    static const char *const words[] = {
        [LIBC_CREATE] = "create",     [LIBC_WRITE] = "write",   [LIBC_SYNC] = "sync",
        [LIBC_TRUNCATE] = "truncate", [LIBC_RENAME] = "rename", [LIBC_UNLINK] = "unlink",
        [LIBC_MKDIR] = "mkdir"};
    the_report->reached = true;
    the_report->kind = op->kind;
    snprintf(the_report->place, sizeof the_report->place, "%s %.100s at %lld, %llu bytes",
             words[op->kind], path + strlen(root_path), (long long)op->offset,
             (unsigned long long)bytes_of(op));
}

/* ---- Carrying out ---- */

static ssize_t result_of(long result)
{
    return result < 0 ? -errno : (ssize_t)result;
}

/* The first `n_bytes` of a write. */
static ssize_t write_perform(const struct libc_op *op, uint64_t n_bytes)
{
    struct iovec parts[PARTS_MAX];
    int n_parts = 0;
    if (op->n_parts > PARTS_MAX)
        return -EINVAL;
    for (uint64_t left = n_bytes; left > 0 && n_parts < op->n_parts; n_parts++) {
        parts[n_parts] = op->parts[n_parts];
        if (parts[n_parts].iov_len > left)
            parts[n_parts].iov_len = left;
        left -= parts[n_parts].iov_len;
    }
    disk_model_write(op->fd, (uint64_t)op->offset, n_bytes);
    long result = syscall(SYS_pwritev, op->fd, parts, n_parts, op->offset, 0);
    if (result > 0 && op->moves)
        (void)lseek(op->fd, op->offset + result, SEEK_SET);
    if (result > 0 && (fcntl(op->fd, F_GETFL) & O_DSYNC) != 0)
        disk_model_write_synced(op->fd, (uint64_t)op->offset, (uint64_t)result);
    return result_of(result);
}

/* Whole; false: the caller carries it out, and the model knows. */
static bool perform(const struct libc_op *op, const char *path, const char *new_path,
                    ssize_t *result)
{
    switch (op->kind) {
    case LIBC_WRITE:
        *result = write_perform(op, bytes_of(op));
        return true;
    case LIBC_SYNC:
        disk_model_synced(op->fd);
        *result = 0;
        return true;
    case LIBC_TRUNCATE:
        disk_model_truncate(op->fd, (uint64_t)op->offset);
        return false;
    case LIBC_CREATE:
    case LIBC_RENAME:
    case LIBC_UNLINK:
    case LIBC_MKDIR:
        disk_model_name(op->kind, path, new_path);
        return false;
    }
    return false;
}

/* The same for one whose caller will not live to carry it out. */
static void perform_last(const struct libc_op *op, const char *path, const char *new_path)
{
    ssize_t result;
    if (perform(op, path, new_path, &result))
        return;
    if (op->kind == LIBC_TRUNCATE)
        (void)syscall(SYS_ftruncate, op->fd, op->offset);
    else if (op->kind == LIBC_CREATE)
        (void)syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY, 0600);
    else if (op->kind == LIBC_RENAME)
        (void)syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, new_path, 0);
    else if (op->kind == LIBC_UNLINK)
        (void)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    else if (op->kind == LIBC_MKDIR)
        (void)syscall(SYS_mkdirat, AT_FDCWD, path, 0700);
}

/* ---- Fates ---- */

static _Noreturn void die(const struct libc_op *op, const char *path, const char *new_path)
{
    switch (the_plan->fate) {
    case CRASH_MIDDLE:
        if (op->kind == LIBC_WRITE)
            (void)write_perform(op, bytes_of(op) / 2 / DISK_SECTOR_BYTES * DISK_SECTOR_BYTES);
        else
            perform_last(op, path, new_path);
        break;
    case CRASH_POWER_ALL:
        disk_model_lose_all();
        break;
    case CRASH_POWER_SOME:
        if (op->kind != LIBC_SYNC)
            perform_last(op, path, new_path);
        disk_model_lose_some(the_plan->seed);
        break;
    case CRASH_NEVER:
    case CRASH_BEFORE:
    case CRASH_FAIL:
    case CRASH_SHORT:
        break;
    }
    _exit(CRASH_EXIT_STATUS);
}

/* True: the operation fails now. */
static bool fails(const struct libc_op *op, ssize_t *result)
{
    if (the_plan->fate == CRASH_FAIL) {
        if (op->kind == LIBC_SYNC)
            disk_model_sync_failed(op->fd);
        *result = -the_plan->error;
        return true;
    }
    uint64_t half = bytes_of(op) / 2;
    if (the_plan->fate == CRASH_SHORT && op->kind == LIBC_WRITE && half > 0) {
        *result = write_perform(op, half);
        return true;
    }
    return false;
}

bool crash_points_take(const struct libc_op *op, ssize_t *result)
{
    char path[PATH_MAX];
    char new_path[PATH_MAX] = "";
    if (!path_of(op->fd, op->path, path) || !below_root(path))
        return false;
    if (op->kind == LIBC_RENAME && !path_of(AT_FDCWD, op->new_path, new_path))
        return false;
    if (calm)
        return perform(op, path, new_path, result);
    if (the_report->points == CRASH_POINTS_MAX)
        _exit(3);
    the_report->kinds[++the_report->points] = (uint8_t)op->kind;
    if (the_report->points == the_plan->point && the_plan->fate != CRASH_NEVER) {
        place_note(op, path);
        if (the_plan->fate != CRASH_FAIL && the_plan->fate != CRASH_SHORT)
            die(op, path, new_path);
        if (fails(op, result))
            return true;
    } else if (the_plan->lasting && the_report->points > the_plan->point &&
               (op->kind == LIBC_WRITE || op->kind == LIBC_CREATE || op->kind == LIBC_MKDIR)) {
        if (fails(op, result))
            return true;
    }
    return perform(op, path, new_path, result);
}
