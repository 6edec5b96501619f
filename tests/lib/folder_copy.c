/* Copying folders: a walk from the top that makes folders and copies files. */
#include "lib/folder_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *source;
static const char *target;

static int data_copy(int in, int out)
{
    char bytes[65536];
    off_t at = 0;
    off_t end = lseek(in, 0, SEEK_END);
    if (end < 0 || ftruncate(out, end) != 0)
        return -1;
    while ((at = lseek(in, at, SEEK_DATA)) >= 0 && at < end) {
        ssize_t n = pread(in, bytes, sizeof bytes, at);
        if (n <= 0 || pwrite(out, bytes, (size_t)n, at) != n)
            return -1;
        at += n;
    }
    return at >= 0 || errno == ENXIO ? 0 : -1;
}

static int file_copy(const char *from, const char *to, mode_t mode)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    int result = out < 0 ? -1 : data_copy(in, out);
    if (out >= 0)
        close(out);
    if (in >= 0)
        close(in);
    return result;
}

static int copy_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    char to[PATH_MAX];
    (void)walk;
    if (snprintf(to, sizeof to, "%s%s", target, path + strlen(source)) >= (int)sizeof to)
        return -1;
    return kind == FTW_D ? mkdir(to, 0700) : file_copy(path, to, status->st_mode & 0777);
}

void folder_copy(const char *from, const char *to)
{
    source = from;
    target = to;
    if (nftw(from, copy_one, 16, FTW_PHYS) != 0) {
        perror(from);
        exit(2);
    }
}
