/* Folders of tests: made by mkdtemp, removed by a depth-first walk that follows no links. */
#include "temp_folder.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void temp_folder_make(char ret_path[TEMP_FOLDER_PATH_BYTES])
{
    const char *base = getenv("TMPDIR");
    int n = snprintf(ret_path, TEMP_FOLDER_PATH_BYTES, "%s/tierkv-test-XXXXXX",
                     base != NULL && base[0] != '\0' ? base : "/tmp");
    if (n >= TEMP_FOLDER_PATH_BYTES || mkdtemp(ret_path) == NULL) {
        perror("cannot make a temporary folder");
        exit(2);
    }
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)walk;
    return kind == FTW_DP ? rmdir(path) : unlink(path);
}

void temp_folder_remove(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0) {
        perror(path);
    }
}
