/* Durable content of files and names: see disk_model.h.
 *
 * Each file that is touched is opened once more; its durable content stands in memory with one flag
 * for each sector that was written since the last fsync. Changes of names stand in a list until
 * their folder is synced, and are undone backwards.
 */
#include "lib/faults/disk_model.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILES_MAX 256
#define NAMES_MAX 1024

struct file {
    dev_t device;
    ino_t inode;
    int fd; /* Of its own, to read and write */
    uint64_t durable_bytes;
    unsigned char *durable; /* Zeros beyond durable_bytes */
    bool *dirty;            /* For each sector */
    uint64_t room;          /* Bytes that both have space for, whole sectors */
};

/* A change of a name that is not durable yet. */
struct name {
    enum libc_kind kind;
    dev_t device; /* Of the folder */
    ino_t inode;
    bool lost;               /* A sync of the folder has failed */
    char path[PATH_MAX];     /* That was made, deleted or renamed */
    char new_path[PATH_MAX]; /* Rename */
    char grave[PATH_MAX];    /* Where lies what was deleted or replaced; "": there was nothing */
};

static const char *graves;
static struct file files[FILES_MAX];
static size_t n_files;
static struct name *names;
static size_t n_names;
static unsigned n_graves;

static _Noreturn void broken(const char *what, const char *path)
{
    fprintf(stderr, "disk_model: cannot %s %s: %s\n", what, path, strerror(errno));
    _exit(3);
}

void disk_model_start(const char *graves_path)
{
    graves = graves_path;
    n_files = 0;
    n_names = 0;
    n_graves = 0;
    names = malloc(NAMES_MAX * sizeof *names);
    if (names == NULL)
        broken("remember", "names");
}

/* ---- Content ---- */

static void file_reserve(struct file *file, uint64_t bytes)
{
    uint64_t room = (bytes + DISK_SECTOR_BYTES - 1) / DISK_SECTOR_BYTES * DISK_SECTOR_BYTES;
    if (room <= file->room)
        return;
    room += room / 2 / DISK_SECTOR_BYTES * DISK_SECTOR_BYTES;
    unsigned char *durable = realloc(file->durable, room);
    bool *dirty = realloc(file->dirty, room / DISK_SECTOR_BYTES * sizeof *dirty);
    if (durable == NULL || dirty == NULL)
        broken("remember", "a file");
    uint64_t sectors = file->room / DISK_SECTOR_BYTES;
    memset(durable + file->room, 0, room - file->room);
    memset(dirty + sectors, 0, (room / DISK_SECTOR_BYTES - sectors) * sizeof *dirty);
    file->durable = durable;
    file->dirty = dirty;
    file->room = room;
}

static uint64_t size_of(const struct file *file)
{
    struct stat status;
    if (fstat(file->fd, &status) != 0)
        broken("look at", "a file");
    return (uint64_t)status.st_size;
}

static void read_at(const struct file *file, unsigned char *bytes, uint64_t n, uint64_t offset)
{
    if (n == 0)
        return;
    ssize_t done = pread(file->fd, bytes, n, (off_t)offset);
    if (done < 0)
        broken("read", "a file");
    memset(bytes + done, 0, n - (uint64_t)done);
}

/* NULL: not a file but a folder. */
static struct file *file_find(int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        broken("look at", "a descriptor");
    if (!S_ISREG(status.st_mode))
        return NULL;
    for (size_t i = 0; i < n_files; i++)
        if (files[i].device == status.st_dev && files[i].inode == status.st_ino)
            return &files[i];
    if (n_files == FILES_MAX)
        broken("remember", "so many files");
    struct file *file = &files[n_files++];
    *file = (struct file){.device = status.st_dev, .inode = status.st_ino};
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    file->fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (file->fd < 0)
        broken("open", path);
    file->durable_bytes = (uint64_t)status.st_size;
    file_reserve(file, file->durable_bytes);
    read_at(file, file->durable, file->durable_bytes, 0);
    return file;
}

static void dirty_set(struct file *file, uint64_t from, uint64_t to)
{
    file_reserve(file, to);
    for (uint64_t at = from / DISK_SECTOR_BYTES; at * DISK_SECTOR_BYTES < to; at++)
        file->dirty[at] = true;
}

void disk_model_write(int fd, uint64_t offset, uint64_t n_bytes)
{
    struct file *file = file_find(fd);
    if (file != NULL)
        dirty_set(file, offset, offset + n_bytes);
}

void disk_model_truncate(int fd, uint64_t bytes)
{
    struct file *file = file_find(fd);
    if (file == NULL)
        return;
    uint64_t size = size_of(file);
    if (size > bytes)
        dirty_set(file, bytes, size);
    else
        dirty_set(file, size, bytes);
}

/* The dirty sectors of the range become durable, and the size up to its end. */
static void make_durable(struct file *file, uint64_t from, uint64_t to)
{
    file_reserve(file, to);
    for (uint64_t at = from / DISK_SECTOR_BYTES; at * DISK_SECTOR_BYTES < to; at++) {
        if (file->dirty[at])
            read_at(file, file->durable + at * DISK_SECTOR_BYTES, DISK_SECTOR_BYTES,
                    at * DISK_SECTOR_BYTES);
        file->dirty[at] = false;
    }
}

void disk_model_write_synced(int fd, uint64_t offset, uint64_t n_bytes)
{
    struct file *file = file_find(fd);
    if (file == NULL)
        return;
    make_durable(file, offset, offset + n_bytes);
    if (file->durable_bytes < offset + n_bytes)
        file->durable_bytes = offset + n_bytes;
}

/* ---- Names ---- */

static void folder_of(const char *path, dev_t *ret_device, ino_t *ret_inode)
{
    char copy[PATH_MAX];
    struct stat status;
    snprintf(copy, sizeof copy, "%s", path);
    if (stat(dirname(copy), &status) != 0)
        broken("find the folder of", path);
    *ret_device = status.st_dev;
    *ret_inode = status.st_ino;
}

/* A second name keeps what a path names now. */
static void bury(const char *path, char grave[PATH_MAX])
{
    snprintf(grave, PATH_MAX, "%s/%u", graves, n_graves++);
    if (link(path, grave) == 0)
        return;
    if (errno != ENOENT)
        broken("keep", path);
    grave[0] = '\0';
}

void disk_model_name(enum libc_kind kind, const char *path, const char *new_path)
{
    if (n_names == NAMES_MAX)
        broken("remember", "so many names");
    struct name *name = &names[n_names++];
    *name = (struct name){.kind = kind};
    folder_of(path, &name->device, &name->inode);
    snprintf(name->path, sizeof name->path, "%s", path);
    if (kind == LIBC_UNLINK)
        bury(path, name->grave);
    if (kind == LIBC_RENAME) {
        snprintf(name->new_path, sizeof name->new_path, "%s", new_path);
        bury(new_path, name->grave);
    }
}

static int remove_name(const char *path)
{
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

static int move_name(const char *path, const char *new_path)
{
    return (int)syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, new_path, 0);
}

/* What lies deeper was noted later and is undone already, or is lost with the folder. */
static void folder_undo(const char *path)
{
    char lost[PATH_MAX];
    snprintf(lost, sizeof lost, "%s/%u", graves, n_graves++);
    if (move_name(path, lost) != 0 && errno != ENOENT)
        broken("undo", path);
}

static void name_undo(const struct name *name)
{
    int result = 0;
    switch (name->kind) {
    case LIBC_CREATE:
        result = remove_name(name->path);
        break;
    case LIBC_MKDIR:
        folder_undo(name->path);
        break;
    case LIBC_UNLINK:
        if (name->grave[0] != '\0')
            result = move_name(name->grave, name->path);
        break;
    case LIBC_RENAME:
        result = move_name(name->new_path, name->path);
        if (result == 0 && name->grave[0] != '\0')
            result = move_name(name->grave, name->new_path);
        break;
    case LIBC_WRITE:
    case LIBC_SYNC:
    case LIBC_TRUNCATE:
        break;
    }
    /* The operation itself may have failed, or its folder may be gone. */
    if (result != 0 && errno != ENOENT)
        broken("undo", name->path);
}

/* ---- Syncs ---- */

static void folder_synced(int fd, bool failed)
{
    struct stat status;
    size_t kept = 0;
    if (fstat(fd, &status) != 0)
        broken("look at", "a folder");
    for (size_t i = 0; i < n_names; i++) {
        bool here = names[i].device == status.st_dev && names[i].inode == status.st_ino;
        if (here && failed)
            names[i].lost = true;
        if (!here || names[i].lost)
            names[kept++] = names[i];
    }
    n_names = kept;
}

void disk_model_synced(int fd)
{
    struct file *file = file_find(fd);
    if (file == NULL) {
        folder_synced(fd, false);
        return;
    }
    uint64_t size = size_of(file);
    make_durable(file, 0, file->room);
    file->durable_bytes = size;
}

void disk_model_sync_failed(int fd)
{
    struct file *file = file_find(fd);
    if (file == NULL)
        folder_synced(fd, true);
    else if (file->room > 0)
        memset(file->dirty, 0, file->room / DISK_SECTOR_BYTES * sizeof *file->dirty);
}

/* ---- The power cut ---- */

static uint64_t random_next(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* True: this is lost. Without a state everything is. */
static bool lost(uint64_t *state)
{
    return state == NULL || random_next(state) % 2 == 0;
}

/* Puts back what is lost of one file. */
static void file_lose(struct file *file, uint64_t *state)
{
    uint64_t size = size_of(file);
    bool size_lost = size != file->durable_bytes && lost(state);
    file_reserve(file, size);
    unsigned char now[DISK_SECTOR_BYTES];
    for (uint64_t at = 0; at * DISK_SECTOR_BYTES < size; at++) {
        const unsigned char *durable = file->durable + at * DISK_SECTOR_BYTES;
        read_at(file, now, DISK_SECTOR_BYTES, at * DISK_SECTOR_BYTES);
        /* A clean sector that differs was dirty when a sync failed. */
        bool differs = memcmp(now, durable, DISK_SECTOR_BYTES) != 0;
        uint64_t n = size - at * DISK_SECTOR_BYTES;
        n = n < DISK_SECTOR_BYTES ? n : DISK_SECTOR_BYTES;
        if (differs && (!file->dirty[at] || lost(state)) &&
            syscall(SYS_pwrite64, file->fd, durable, n, at * DISK_SECTOR_BYTES) < 0)
            broken("undo", "a write");
    }
    if (!size_lost)
        return;
    if (syscall(SYS_ftruncate, file->fd, file->durable_bytes) != 0)
        broken("undo", "the size of a file");
    if (size < file->durable_bytes &&
        syscall(SYS_pwrite64, file->fd, file->durable + size, file->durable_bytes - size, size) < 0)
        broken("undo", "a cut");
}

static void lose(uint64_t *state)
{
    for (size_t i = 0; i < n_files; i++)
        file_lose(&files[i], state);
    for (size_t i = n_names; i-- > 0;)
        if (names[i].lost || lost(state))
            name_undo(&names[i]);
    for (size_t i = 0; i < n_files; i++) {
        (void)close(files[i].fd);
        free(files[i].durable);
        free(files[i].dirty);
    }
    free(names);
    names = NULL;
}

void disk_model_lose_all(void)
{
    lose(NULL);
}

void disk_model_lose_some(uint64_t seed)
{
    uint64_t state = seed;
    lose(&state);
}
